//! Query parameters. Names that are not known are left alone, as proxies and cache busters add them; a
//! value that does not fit, or a parameter given twice, is refused by name.

use super::problem::{Code, Problem};
use actix_web::HttpRequest;
use std::borrow::Cow;

/// The parameters of a request.
pub(super) struct Query<'r>(Vec<(Cow<'r, str>, Cow<'r, str>)>);

impl<'r> Query<'r> {
    pub(super) fn of(request: &'r HttpRequest) -> Self {
        Self(form_urlencoded::parse(request.query_string().as_bytes()).collect())
    }

    /// The value of a parameter, if it is given.
    pub(super) fn get(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.0.iter().filter(|(n, _)| n == name).map(|(_, value)| &**value);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            (_, Some(_)) => Err(Problem::new(Code::InvalidQuery, format!("{name} is given twice"))),
        }
    }

    /// The value of a parameter that is a number within bounds.
    pub(super) fn number(&self, name: &str, most: usize) -> Result<Option<usize>, Problem> {
        let Some(text) = self.get(name)? else { return Ok(None) };
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse().ok().filter(|n| digits && (1..=most).contains(n)) {
            Some(number) => Ok(Some(number)),
            None => Err(Problem::new(
                Code::InvalidQuery,
                format!("{name} is a number from 1 to {most}"),
            )),
        }
    }

    /// The value of a parameter that is one of a few words.
    pub(super) fn word<T: Copy>(
        &self,
        name: &str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.get(name)? else { return Ok(None) };
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => Ok(Some(*value)),
            None => {
                let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                let detail = format!("{name} is one of {}", words.join(", "));
                Err(Problem::new(Code::InvalidQuery, detail))
            }
        }
    }
}
