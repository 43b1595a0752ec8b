//! Which fields of a value rules ask of: no others need be converted for them.

use std::collections::BTreeMap;

use cel::common::ast::{Expr, SelectExpr};
use cel::{IdedExpr, Program};

/// What is needed of a value: all of it, or some fields.
#[derive(Debug, Default)]
pub struct Needed {
    whole: bool,
    fields: BTreeMap<String, Needed>,
}

impl Needed {
    /// What programs need of `self` and `oldSelf`.
    pub fn of<'a>(programs: impl IntoIterator<Item = &'a Program>) -> Needed {
        let mut needed = Needed::default();
        programs.into_iter().for_each(|program| needed.ask(program.expression()));
        needed
    }

    /// Of this field, by its name in CEL; none when that isn't needed.
    pub fn field(&self, name: &str) -> Option<&Needed> {
        if self.whole { Some(self) } else { self.fields.get(name) }
    }

    fn ask(&mut self, asked: &IdedExpr) {
        match &asked.expr {
            Expr::Unspecified | Expr::Literal(_) => {}
            Expr::Ident(name) => self.whole |= is_value(name),
            Expr::Select(select) => match self.at(&select.operand.expr) {
                Some(place) => place.select(select),
                None => self.ask(&select.operand),
            },
            Expr::Call(call) => {
                call.target.iter().for_each(|target| self.ask(target));
                call.args.iter().for_each(|arg| self.ask(arg));
            }
            Expr::List(list) => list.elements.iter().for_each(|element| self.ask(element)),
            Expr::Comprehension(inner) => {
                let parts = [&inner.iter_range, &inner.accu_init, &inner.loop_cond];
                parts.into_iter().for_each(|part| self.ask(part));
                self.ask(&inner.loop_step);
                self.ask(&inner.result);
            }
            // No rule has these so far.
            Expr::Map(_) | Expr::Struct(_) => self.whole = true,
        }
    }

    /// The place that an expression such as `self.spec` names.
    fn at(&mut self, named: &Expr) -> Option<&mut Needed> {
        match named {
            Expr::Ident(name) if is_value(name) => Some(self),
            Expr::Select(select) if !select.test => {
                let place = self.at(&select.operand.expr)?;
                Some(place.fields.entry(select.field.clone()).or_default())
            }
            _ => None,
        }
    }

    /// A field is read, or only asked whether it is there.
    fn select(&mut self, select: &SelectExpr) {
        let place = self.fields.entry(select.field.clone()).or_default();
        place.whole |= !select.test;
    }
}

fn is_value(name: &str) -> bool {
    name == "self" || name == "oldSelf"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(rule: &str) -> Vec<String> {
        fn walk(needed: &Needed, path: &str, found: &mut Vec<String>) {
            if needed.whole {
                found.push(format!("{path}*"));
            } else if needed.fields.is_empty() {
                found.push(path.to_owned());
            }
            for (name, inner) in &needed.fields {
                walk(inner, &format!("{path}{name}."), found);
            }
        }
        let mut found = Vec::new();
        walk(&Needed::of([&Program::compile(rule).unwrap()]), "", &mut found);
        found
    }

    #[test]
    fn fields_are_known_by_their_paths() {
        assert_eq!(fields("!has(self.a) || self.a.b > 1"), ["a.b.*"]);
        assert_eq!(fields("has(self.a.b)"), ["a.b."]);
        assert_eq!(fields("self.a == oldSelf.b.c"), ["a.*", "b.c.*"]);
        assert_eq!(fields("self.a.all(x, x.b) && self.c[0].d"), ["a.*", "c.*"]);
        assert_eq!(fields("size(self) > 1 && self.a.startsWith('x')")[0], "*");
        assert_eq!(fields("[1].exists(x, x == self.a)"), ["a.*"]);
        assert_eq!(fields("{'a': self.b}.a == 1"), ["*"]);
    }
}
