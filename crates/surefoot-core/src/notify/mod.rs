//! Telling people: what a message says, how an answer is read, and how often one may ask. Pure; the
//! shell sends.

pub mod pace;
pub mod slack;

/// Why a channel doesn't get its news.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// There is no such channel.
    #[error(
        "there is no NotificationChannel of that name: create it, or take it out of spec.notifications"
    )]
    ChannelMissing,
    /// The channel's spec makes no sense to this controller.
    #[error("the NotificationChannel can't be read: apply crds/, and the channel once more")]
    ChannelInvalid,
    /// There is no such Secret.
    #[error("Secret {name} doesn't exist: create it with key {key}")]
    SecretMissing {
        /// The Secret.
        name: String,
        /// The key that is wanted.
        key: String,
    },
    /// The Secret has no such key, or nothing usable in it.
    #[error("Secret {name} has no usable text under key {key}: put it there")]
    KeyMissing {
        /// The Secret.
        name: String,
        /// The key that is wanted.
        key: String,
    },
    /// We may not read the Secret.
    #[error(
        "Secret {name} may not be read: add its name to the secrets of Role surefoot (deploy/namespace.yaml)"
    )]
    SecretForbidden {
        /// The Secret.
        name: String,
    },
    /// The Secret couldn't be read this time.
    #[error("Secret {name} couldn't be read: {problem}")]
    SecretUnread {
        /// The Secret.
        name: String,
        /// What happened.
        problem: String,
    },
    /// The URL is one that nothing is ever sent to.
    #[error("{0}")]
    AddressRefused(String),
    /// No answer, or one that says: later.
    #[error("{0}")]
    Unreachable(String),
    /// Too many messages.
    #[error("Slack asks for fewer messages")]
    Busy,
    /// Slack won't have it, now or later.
    #[error("Slack refuses: {0}")]
    Refused(&'static str),
    /// The answer isn't Slack's.
    #[error("the answer isn't one of Slack's (status {0}): is the URL right?")]
    Strange(u16),
}

impl Trouble {
    /// In one word, for machines.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Trouble::ChannelMissing => "ChannelMissing",
            Trouble::ChannelInvalid => "ChannelInvalid",
            Trouble::SecretMissing { .. } => "SecretMissing",
            Trouble::KeyMissing { .. } => "KeyMissing",
            Trouble::SecretForbidden { .. } => "SecretForbidden",
            Trouble::SecretUnread { .. } => "SecretUnread",
            Trouble::AddressRefused(_) => "AddressRefused",
            Trouble::Unreachable(_) => "Unreachable",
            Trouble::Busy => "Busy",
            Trouble::Refused(_) => "Refused",
            Trouble::Strange(_) => "StrangeAnswer",
        }
    }

    /// How soon it may be over by itself.
    #[must_use]
    pub fn outlook(&self) -> Outlook {
        match self {
            Trouble::Unreachable(_) | Trouble::Busy | Trouble::SecretUnread { .. } => {
                Outlook::Passing
            }
            Trouble::ChannelMissing
            | Trouble::ChannelInvalid
            | Trouble::SecretMissing { .. }
            | Trouble::KeyMissing { .. }
            | Trouble::SecretForbidden { .. } => Outlook::Ours,
            Trouble::AddressRefused(_) | Trouble::Refused(_) | Trouble::Strange(_) => {
                Outlook::Lasting
            }
        }
    }
}

/// How soon a trouble may be over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// By itself, soon.
    Passing,
    /// As soon as somebody corrects it in this cluster; looking costs nobody else anything.
    Ours,
    /// Not before somebody corrects it; asking again is a nuisance to the other side.
    Lasting,
}
