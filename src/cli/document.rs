//! An explanation as text for a terminal, and as Markdown for a ticket.

use super::explain::Explanation;
use super::page::{Page, Style};

/// As text.
#[must_use]
pub fn text(explanation: &Explanation, style: Style) -> String {
    let mut page = Page::new(style);
    page.heading(&format!("{}/{}", explanation.namespace, explanation.rollout));
    page.put("  ", &explanation.summary);
    for section in &explanation.sections {
        page.heading(&section.title);
        section.points.iter().for_each(|point| page.put("  • ", point));
    }
    page.finish()
}

/// As Markdown.
#[must_use]
pub fn markdown(explanation: &Explanation) -> String {
    let Explanation { namespace, rollout, at, summary, sections, .. } = explanation;
    let mut text = format!("# {namespace}/{rollout}\n\n{}\n\nAs of {at}.\n", escaped(summary));
    for section in sections {
        text += &format!("\n## {}\n\n", section.title);
        for point in &section.points {
            text += &format!("- {}\n", escaped(point));
        }
    }
    text
}

/// People's reasons and names are in there: nothing of them may become markup.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | '*' | '_' | '<' | '>' | '[' | ']' | '#' | '|') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
