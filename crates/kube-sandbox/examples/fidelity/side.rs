//! One of the two servers, with what was learnt of its objects.

use std::collections::HashMap;

use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::Value;

use crate::Error;
use crate::grammar::Step;

/// What a server answered.
pub struct Reply {
    /// The HTTP status.
    pub code: u16,
    /// The body; of a watch the list of its events.
    pub body: Value,
    /// Whether it warned.
    pub warned: bool,
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
            .header("accept", "application/json")
            .header("user-agent", "fidelity")
            .body(Body::from(body.unwrap_or_default().into_bytes()))?;
        let response = self.client.send(request).await?;
        let code = response.status().as_u16();
        let warned = response.headers().contains_key("warning");
        let bytes = response.into_body().collect().await?.to_bytes();
        let lines = serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>();
        let mut values: Vec<Value> = lines.collect::<Result<_, _>>().unwrap_or_default();
        let mut body = match values.len() {
            1 if step.name != "watch" => values.remove(0),
            _ => Value::Array(values),
        };
        self.learn(&body, &step.object);
        self.neutral(&mut body);
        Ok(Reply { code, body, warned })
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
                if fields.get("items").is_some_and(Value::is_array)
                    && fields.contains_key("metadata")
                {
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
            Value::String(text) => *text = self.plain(text),
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
            ("managedFields", Value::Array(entries)) => {
                entries.sort_by_key(|e| (e["manager"].to_string(), e["subresource"].to_string()));
                entries.iter_mut().for_each(|entry| self.neutral(entry));
            }
            _ => self.neutral(field),
        }
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

fn place(seen: &mut Vec<String>, text: &str) -> usize {
    seen.iter().position(|known| known == text).unwrap_or_else(|| {
        seen.push(text.to_owned());
        seen.len() - 1
    })
}
