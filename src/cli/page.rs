//! A page of text: wrapped to a width, with or without colour.

/// Narrower than this nothing can be laid out; the terminal wraps instead.
const NARROWEST: usize = 40;

/// What a piece of text tells, and so its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Wrong.
    Bad,
    /// To be looked at.
    Warn,
    /// Of less interest.
    Faint,
    /// A heading.
    Strong,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Warn => "33",
            Tone::Faint => "2",
            Tone::Strong => "1",
        }
    }
}

/// How wide and how colourful.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Columns.
    pub width: usize,
    /// Whether ANSI colours may be used.
    pub colour: bool,
}

impl Style {
    /// `text` in the colour of its tone, where colours may be used.
    #[must_use]
    pub fn paint(self, tone: Tone, text: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("\u{1b}[{}m{text}\u{1b}[0m", tone.code())
        } else {
            text.to_owned()
        }
    }
}

/// A page in the making.
#[derive(Debug, Clone)]
pub struct Page {
    /// Its style.
    pub style: Style,
    text: String,
}

impl Page {
    /// An empty page.
    #[must_use]
    pub fn new(style: Style) -> Self {
        Self { style, text: String::new() }
    }

    /// A heading after an empty line.
    pub fn heading(&mut self, text: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.put("", &self.style.paint(Tone::Strong, text));
    }

    /// A paragraph behind `lead`; what doesn't fit goes on below its beginning.
    pub fn put(&mut self, lead: &str, text: &str) {
        let margin = visible(lead);
        let room = self.style.width.max(NARROWEST).saturating_sub(margin).max(1);
        let mut lead = lead.to_owned();
        for line in wrap(text, room) {
            self.text.push_str(format!("{lead}{line}").trim_end());
            self.text.push('\n');
            lead = " ".repeat(margin);
        }
    }

    /// The text, each line ended.
    #[must_use]
    pub fn finish(self) -> String {
        self.text
    }
}

/// Columns that `text` takes: characters outside of ANSI escapes.
#[must_use]
pub fn visible(text: &str) -> usize {
    split_at_column(text, usize::MAX).2
}

/// `text` up to a column and the rest, with the columns of the first part.
fn split_at_column(text: &str, column: usize) -> (&str, &str, usize) {
    let (mut columns, mut escape) = (0, false);
    for (i, c) in text.char_indices() {
        match (escape, c) {
            (true, 'm') => escape = false,
            (true, _) => {}
            (false, '\u{1b}') => escape = true,
            (false, _) if columns == column => {
                let (head, tail) = text.split_at(i);
                return (head, tail, columns);
            }
            (false, _) => columns += 1,
        }
    }
    (text, "", columns)
}

/// Lines of at most `width` columns. Words are broken only when they are longer than a line.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let mut word = word;
        if used > 0 && used + 1 + visible(word) > width {
            lines.push(String::new());
            used = 0;
        }
        while visible(word) > width {
            let (head, tail, _) = split_at_column(word, width);
            if let Some(line) = lines.last_mut() {
                line.push_str(head);
            }
            lines.push(String::new());
            word = tail;
        }
        if let Some(line) = lines.last_mut() {
            if used > 0 {
                line.push(' ');
            }
            line.push_str(word);
            used = visible(line);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_kept_whole_where_they_fit() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("a abcdefghij b", 4), ["a", "abcd", "efgh", "ij b"]);
        assert_eq!(wrap("", 4), [""]);
    }

    #[test]
    fn escapes_take_no_room() {
        let style = Style { width: 80, colour: true };
        let green = style.paint(Tone::Good, "ok ok");
        assert_eq!(visible(&green), 5);
        assert_eq!(wrap(&green, 5).len(), 1);
    }

    #[test]
    fn what_does_not_fit_goes_below_its_beginning() {
        let mut page = Page::new(Style { width: 40, colour: false });
        page.put("  image  ", "registry.example.com/shop/checkout:1.5.0 and more");
        assert_eq!(
            page.finish(),
            "  image  registry.example.com/shop/check\n         out:1.5.0 and more\n"
        );
    }
}
