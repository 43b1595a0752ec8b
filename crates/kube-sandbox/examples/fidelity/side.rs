//! One of the two servers, with what was learnt of its objects.

use std::collections::HashMap;

use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::Value;

use crate::Error;
use crate::grammar::{LAST, Step};

/// What a server answered.
pub struct Reply {
    /// The HTTP status.
    pub code: u16,
    /// The body; of a watch the list of its events.
    pub body: Value,
    /// What it warned of.
    pub warnings: Vec<String>,
}

/// A server, and what stands for its versions and uids in the requests.
pub struct Side {
    client: Client,
    namespace: String,
    /// By object: uid, first and latest version.
    known: HashMap<String, (String, String, String)>,
    /// Versions in the order in which they were seen.
    versions: Vec<String>,
    uids: Vec<String>,
    /// The version of the first list.
    start: String,
}

impl Side {
    pub fn new(client: Client, namespace: String) -> Side {
        Side {
            client,
            namespace,
            known: HashMap::new(),
            versions: Vec::new(),
            uids: Vec::new(),
            start: String::new(),
        }
    }

    /// Sends a step; what it says of versions and uids is replaced by this server's.
    pub async fn send(&mut self, step: &Step) -> Result<Reply, Error> {
        let uri = self.filled(&step.uri, &step.object);
        let body = step.body.as_ref().map(|body| self.filled(&body.to_string(), &step.object));
        let request = http::Request::builder()
            .method(step.method.clone())
            .uri(uri)
            .header("content-type", step.media)
            .header("accept", step.accept)
            .header("user-agent", "fidelity")
            .body(Body::from(body.unwrap_or_default().into_bytes()))?;
        let response = self.client.send(request).await?;
        let code = response.status().as_u16();
        let warnings = response.headers().get_all("warning").iter();
        let warnings =
            warnings.map(|text| text.to_str().map(str::to_owned)).collect::<Result<_, _>>()?;
        let body = response.into_body();
        let mut body = match step.name {
            "watch" | "watch-list" if code == 200 => {
                events(body, step.name == "watch-list").await?
            }
            _ => {
                let bytes = body.collect().await?.to_bytes();
                // What isn't JSON counts as text.
                serde_json::from_slice(&bytes)
                    .unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into())
            }
        };
        self.learn(&body, &step.object);
        self.neutral(&mut body);
        Ok(Reply { code, body, warnings })
    }

    fn filled(&self, text: &str, object: &str) -> String {
        let unknown = (String::new(), String::new(), String::new());
        let (uid, first, last) = self.known.get(object).unwrap_or(&unknown);
        text.replace("$UID", uid)
            .replace("$FIRST", first)
            .replace("$LAST", last)
            .replace("$START", &self.start)
            .replace("$NS", &self.namespace)
    }

    fn learn(&mut self, body: &Value, object: &str) {
        let metadata = &body["metadata"];
        let version = metadata["resourceVersion"].as_str().unwrap_or_default().to_owned();
        if body.get("items").is_some() {
            if self.start.is_empty() {
                self.start = version;
            }
            return;
        }
        let Some(uid) = metadata["uid"].as_str() else { return };
        let known = self
            .known
            .entry(object.to_owned())
            .or_insert_with(|| (String::new(), version.clone(), String::new()));
        if known.0 != uid {
            *known = (uid.to_owned(), version.clone(), version.clone());
        }
        known.2 = version;
    }

    /// Replaces what differs between servers by what doesn't.
    fn neutral(&mut self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                let is_list = ["items", "rows"].iter().any(|name| fields.contains_key(*name));
                if is_list && fields.contains_key("metadata") {
                    fields["metadata"]["resourceVersion"] = "*".into();
                }
                if fields.get("type").is_some_and(|t| t == "BOOKMARK") {
                    fields["object"]["metadata"]["resourceVersion"] = "*".into();
                }
                for (name, field) in fields.iter_mut() {
                    self.field(name, field);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.neutral(item)),
            Value::String(text) => {
                *text = self.embedded(text).unwrap_or_else(|| text.clone());
                *text = self.plain(text);
                *text = in_order(text).unwrap_or_else(|| text.clone());
            }
            _ => {}
        }
    }

    fn field(&mut self, name: &str, field: &mut Value) {
        match (name, &mut *field) {
            ("resourceVersion", Value::String(text)) if text != "*" => {
                let place = place(&mut self.versions, text);
                *text = format!("version {place}");
            }
            ("uid", Value::String(text)) => {
                let place = place(&mut self.uids, text);
                *text = format!("uid {place}");
            }
            ("creationTimestamp" | "deletionTimestamp" | "time" | "clusterIP", text) => {
                *text = "*".into();
            }
            ("clusterIPs" | "fieldsV1", _) => *field = "*".into(),
            ("continue", Value::String(token)) if token.is_empty() => {}
            ("lastTransitionTime" | "continue", _) => *field = "*".into(),
            ("cells", Value::Array(cells)) => {
                cells.iter_mut().filter(|c| is_its_own(c)).for_each(|cell| *cell = "*".into());
            }
            ("causes", Value::Array(causes)) => {
                causes.iter_mut().for_each(|cause| self.neutral(cause));
                causes.sort_by_key(Value::to_string);
            }
            ("managedFields", Value::Array(entries)) => {
                entries.sort_by_key(|e| (e["manager"].to_string(), e["subresource"].to_string()));
                entries.iter_mut().for_each(|entry| self.neutral(entry));
            }
            _ => self.neutral(field),
        }
    }

    /// Text that shows an object, with that as neutral as others and its fields in one order.
    fn embedded(&mut self, text: &str) -> Option<String> {
        let start = text.find("\"{")?;
        let mut strings = serde_json::Deserializer::from_str(&text[start..]).into_iter::<String>();
        let shown = strings.next()?.ok()?;
        let rest = &text[start + strings.byte_offset()..];
        let mut object: Value = serde_json::from_str(&shown).ok()?;
        self.neutral(&mut object);
        Some(format!("{}{}{rest}", &text[..start], Value::from(object.to_string())))
    }

    /// Text without the uids and versions of this server.
    fn plain(&self, text: &str) -> String {
        let mut plain = text.to_owned();
        for (index, uid) in self.uids.iter().enumerate() {
            plain = plain.replace(uid, &format!("uid {index}"));
        }
        for (index, version) in self.versions.iter().enumerate() {
            plain = plain.replace(&format!("({version})"), &format!("(version {index})"));
        }
        // A version that was only ever seen in this refusal.
        match plain.split_once("ResourceVersion in record (") {
            Some((start, rest)) if rest.starts_with(|c: char| c.is_ascii_digit()) => {
                let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
                format!("{start}ResourceVersion in record (*{rest}")
            }
            _ => plain,
        }
    }
}

/// The events of a watch, until it has told of all: of the last object of a sequence, or that what
/// comes first has come.
async fn events(mut body: Body, initial: bool) -> Result<Value, Error> {
    let (mut text, mut events) = (Vec::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        text.extend(frame?.into_data().unwrap_or_default());
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            let event: Value = serde_json::from_slice(&line)?;
            let metadata = &event["object"]["metadata"];
            let is_initial = metadata["annotations"]["k8s.io/initial-events-end"] == "true";
            let is_last = event["type"] == "ADDED" && metadata["name"] == LAST;
            events.push(event);
            if is_initial || is_last && !initial {
                return Ok(events.into());
            }
        }
    }
    Ok(events.into())
}

/// Whether a cell tells for how long something has been, or a Service's address.
fn is_its_own(cell: &Value) -> bool {
    cell.as_str().is_some_and(|text| {
        let is_age = text.starts_with(|c: char| c.is_ascii_digit())
            && text.ends_with(['s', 'm', 'h', 'd', 'y'])
            && text.chars().all(|c| c.is_ascii_digit() || "smhdy".contains(c));
        is_age || text.starts_with("10.96.")
    })
}

/// A message with what is wrong in one order: the real server's is that of a Go map, which differs
/// from one time to the next.
fn in_order(message: &str) -> Option<String> {
    let (start, list) = message.split_once(" is invalid: [")?;
    let mut causes: Vec<&str> = list.strip_suffix(']')?.split(", ").collect();
    causes.sort_unstable();
    Some(format!("{start} is invalid: [{}]", causes.join(", ")))
}

fn place(seen: &mut Vec<String>, text: &str) -> usize {
    seen.iter().position(|known| known == text).unwrap_or_else(|| {
        seen.push(text.to_owned());
        seen.len() - 1
    })
}
