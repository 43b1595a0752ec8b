//! Regular expressions, which take longer to compile than all else of a query takes. The same ones come
//! with every query, so that they are compiled once.

use std::cell::RefCell;
use std::collections::HashMap;

use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::token::{T_EQL_REGEX, T_NEQ_REGEX};
use promql_parser::parser::{self, Expr, VectorSelector};

/// More than this are not kept.
const MOST: usize = 1000;
/// Marks a value that is a regular expression. It is of Unicode's private use.
const MARK: char = '\u{e000}';

thread_local! {
    static KNOWN: RefCell<HashMap<(bool, String), MatchOp>> = RefCell::default();
}

/// What the parser makes of a query, without its compiling each regular expression anew; `None` where
/// the parser has to see the query as it is: it has none, or something is wrong with it.
pub fn parse(query: &str) -> Option<Expr> {
    let mut expr = parser::parse(&marked(query)?).ok()?;
    restore(&mut expr)?;
    Some(expr)
}

/// The query with plain matchers for those with regular expressions, whose values are marked.
fn marked(query: &str) -> Option<String> {
    let mut marked = String::with_capacity(query.len() + 16);
    let (mut quote, mut escaped, mut any) = (None, false, false);
    let mut rest = query.chars().peekable();
    while let Some(c) = rest.next() {
        marked.push(c);
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some('"' | '\''), '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            // A comment, or a text that somebody has marked before.
            (None, '#' | MARK) => return None,
            (None, '"' | '\'' | '`') => quote = Some(c),
            (None, '=' | '!') if rest.peek() == Some(&'~') => {
                rest.next();
                if c == '!' {
                    marked.push('=');
                }
                let open = rest.find(|c| !c.is_whitespace());
                let open = open.filter(|c| matches!(c, '"' | '\'' | '`'))?;
                marked.extend([open, MARK]);
                (quote, any) = (Some(open), true);
            }
            _ => {}
        }
    }
    any.then_some(marked)
}

/// Put regular expressions in the places of the marked values.
fn restore(expr: &mut Expr) -> Option<()> {
    match expr {
        Expr::Aggregate(inner) => {
            restore(&mut inner.expr)?;
            inner.param.as_mut().map_or(Some(()), |param| restore(param))
        }
        Expr::Unary(inner) => restore(&mut inner.expr),
        Expr::Binary(inner) => {
            restore(&mut inner.lhs)?;
            restore(&mut inner.rhs)
        }
        Expr::Paren(inner) => restore(&mut inner.expr),
        Expr::Subquery(inner) => restore(&mut inner.expr),
        Expr::VectorSelector(selector) => matchers(selector),
        Expr::MatrixSelector(selector) => matchers(&mut selector.vs),
        Expr::Call(call) => call.args.args.iter_mut().try_for_each(|arg| restore(arg)),
        Expr::NumberLiteral(_) => Some(()),
        Expr::StringLiteral(text) => (!text.val.contains(MARK)).then_some(()),
        Expr::Extension(_) => None,
    }
}

fn matchers(selector: &mut VectorSelector) -> Option<()> {
    let matchers = &mut selector.matchers;
    let all = matchers.matchers.iter_mut().chain(matchers.or_matchers.iter_mut().flatten());
    for matcher in all {
        let Some(pattern) = matcher.value.strip_prefix(MARK) else { continue };
        matcher.op = compiled(matches!(matcher.op, MatchOp::Equal), pattern)?;
        matcher.value = pattern.to_owned();
    }
    Some(())
}

/// The regular expression; `None` where it is none, or fits an empty label, which the parser judges.
fn compiled(is: bool, pattern: &str) -> Option<MatchOp> {
    KNOWN.with_borrow_mut(|known| {
        let key = (is, pattern.to_owned());
        if let Some(op) = known.get(&key) {
            return Some(op.clone());
        }
        let token = if is { T_EQL_REGEX } else { T_NEQ_REGEX };
        let matcher = Matcher::new_matcher(token, "x".to_owned(), pattern.to_owned()).ok()?;
        if matcher.is_match("") && is {
            return None;
        }
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(key, matcher.op.clone());
        Some(matcher.op)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_the_parser_makes_of_it() {
        for query in [
            r#"sum by (a) (rate(x{a=~"b|c", d!~"e"}[5m] @ 12.5)) / on (a) group_left y"#,
            r#"{a=~ 'it\'s=~', b="=~"} or label_replace(x{a=~`[0-9]`}, "a", "$1=~", "b", "(.*)")"#,
            r#"max_over_time((-x{a=~"b{c}"})[1m:10s]) + quantile(0.5, topk(2, y{a!~".+"}))"#,
        ] {
            assert_eq!(parse(query), Some(parser::parse(query).unwrap()), "{query}");
            assert_eq!(parse(query), Some(parser::parse(query).unwrap()), "{query}, again");
        }
    }

    #[test]
    fn the_parser_judges_what_is_odd() {
        for query in [
            r#"x{a="=~"}"#,
            r#"{a=~".*"}"#,
            r#"x{a=~"("}"#,
            r#"x{a=~b}"#,
            "x{a=~\"b\"} # =~",
            "x{a=~\"b\"",
        ] {
            assert_eq!(parse(query), None, "{query}");
        }
    }
}
