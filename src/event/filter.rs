//! Which events of a run a reader wants: `?types=llm.*,tool.end` and `?agent=NAME_OR_ID`.

use super::event_type::is_name;
use super::{Event, EventType, Source};

/// The most patterns in one filter.
pub const MAX_PATTERNS: usize = 64;

/// A reader's choice of events. The default wants all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// Empty for every type.
    types: Vec<Pattern>,
    agent: Option<Box<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Pattern {
    Category(Box<str>),
    Exactly(Box<str>),
}

/// The text is not a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilter {
    /// A pattern breaks the grammar.
    #[error("types is a list, with commas, of category.action or category.*")]
    Types,
    /// Too many patterns.
    #[error("types has more than {MAX_PATTERNS} patterns")]
    TooMany,
    /// An agent's name is none.
    #[error("agent is an agent's name or id, 1 to 256 characters")]
    Agent,
}

impl Filter {
    /// From the two query values.
    pub fn parse(types: Option<&str>, agent: Option<&str>) -> Result<Self, InvalidFilter> {
        let mut filter = Self::default();
        for pattern in types.map(|t| t.split(',')).into_iter().flatten() {
            match pattern.trim_matches(' ') {
                "*" | "*.*" => {
                    filter.types.clear();
                    break;
                }
                pattern => filter.types.push(Pattern::parse(pattern)?),
            }
            if filter.types.len() > MAX_PATTERNS {
                return Err(InvalidFilter::TooMany);
            }
        }
        if let Some(agent) = agent {
            if agent.is_empty() || agent.len() > 256 {
                return Err(InvalidFilter::Agent);
            }
            filter.agent = Some(agent.into());
        }
        Ok(filter)
    }

    /// Whether every event passes.
    pub fn wants_all(&self) -> bool {
        self.types.is_empty() && self.agent.is_none()
    }

    /// Whether an event of this type and source passes.
    pub fn wants(&self, kind: &EventType, source: Option<&Source>) -> bool {
        let of_type = self.types.is_empty() || self.types.iter().any(|p| p.fits(kind));
        let of_agent = self.agent.as_deref().is_none_or(|a| source.is_some_and(|s| s.is_agent(a)));
        of_type && of_agent
    }

    /// Whether this event passes.
    pub fn wants_event(&self, event: &Event) -> bool {
        self.wants(&event.kind, event.source.as_deref())
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, InvalidFilter> {
        match text.strip_suffix(".*") {
            Some(category) if is_name(category.as_bytes()) => Ok(Self::Category(category.into())),
            Some(_) => Err(InvalidFilter::Types),
            None => match EventType::parse(text) {
                Ok(kind) => Ok(Self::Exactly(kind.as_str().into())),
                Err(_) => Err(InvalidFilter::Types),
            },
        }
    }

    fn fits(&self, kind: &EventType) -> bool {
        match self {
            Self::Category(category) => kind.category() == &**category,
            Self::Exactly(text) => kind.as_str() == &**text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_agents_are_chosen() {
        let kind = |t| EventType::parse(t).unwrap();
        let filter = Filter::parse(Some("llm.*, tool.end"), None).unwrap();
        assert!(filter.wants(&kind("llm.stream"), None) && filter.wants(&kind("tool.end"), None));
        assert!(!filter.wants(&kind("tool.start"), None) && !filter.wants(&kind("llmx.a"), None));
        assert!(Filter::parse(Some("a.b,*"), None).unwrap().wants_all());
        let by_agent = Filter::parse(None, Some("r1")).unwrap();
        let source = Source::parse(r#"{"agent_name":"r1"}"#).unwrap();
        assert!(by_agent.wants(&kind("a.b"), Some(&source)) && !by_agent.wants(&kind("a.b"), None));
        for bad in ["", "llm", "LLM.*", "a.b,,c.d", "*.end", "a.b\n", ".*"] {
            assert_eq!(Filter::parse(Some(bad), None), Err(InvalidFilter::Types), "{bad:?}");
        }
        let many = vec!["a.b"; 65].join(",");
        assert_eq!(Filter::parse(Some(&many), None), Err(InvalidFilter::TooMany));
        assert_eq!(Filter::parse(None, Some("")), Err(InvalidFilter::Agent));
    }
}
