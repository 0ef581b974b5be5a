//! YAML text as a tree in which every key and value knows its place.
//!
//! Reading into a tree first, and not into structs at once, is what lets one run report every
//! problem with the whole path of its key: serde's own errors stop at the first and know no path.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_yaml::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};
use serde_yaml::{Location, Options, Spanned};

/// How deep lists and maps may stand in each other; the deepest that means something is 5.
pub(super) const MAX_DEPTH: usize = 16;
/// How many values there may be, and how many all aliases together may stand for. A file with 127
/// uplinks that say everything has fewer than 10,000.
pub(super) const MAX_VALUES: usize = 50_000;

/// A line and a column, both from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The column.
    pub column: u64,
}

impl Place {
    /// Where a file begins.
    pub(super) const START: Self = Self { line: 1, column: 1 };

    /// The place of a location, where the parser knew one.
    pub(super) fn of(location: Location) -> Option<Self> {
        (location != Location::UNKNOWN).then(|| Self {
            line: location.line(),
            column: location.column(),
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A value, where it stands, and the bytes of the text that spell it.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) content: Content,
    pub(crate) place: Place,
    pub(super) bytes: Range<usize>,
}

/// What a value is. Plain words are typed as YAML 1.2 does it: only `true` and `false` are
/// booleans; `on`, `off`, `yes` and `no` are text.
#[derive(Debug)]
pub(crate) enum Content {
    Null,
    Bool(bool),
    Integer(i128),
    Float,
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key of a map and what stands under it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) node: Node,
}

fn options(duplicate_keys: DuplicateKeyPolicy) -> Options {
    serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_nodes: MAX_VALUES,
        },
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: MAX_VALUES,
        },
        duplicate_keys: duplicate_keys,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        with_snippet: false,
    }
}

/// Reads a text as a tree; two equal keys in a map are an error.
pub(super) fn read(text: &str) -> Result<Node, serde_yaml::Error> {
    serde_yaml::from_str_with_options(text, options(DuplicateKeyPolicy::Error))
}

/// The keys that lead to where reading this text fails.
pub(super) fn path_to_failure(text: &str) -> Vec<String> {
    let path = RefCell::new(Vec::new());
    let options = options(DuplicateKeyPolicy::Error);
    match serde_yaml::with_deserializer_from_str_with_options(text, options, |deserializer| {
        Trace(&path).deserialize(deserializer)
    }) {
        Ok(()) => Vec::new(),
        Err(_) => path.into_inner(),
    }
}

/// Where the first of several equal keys stands, given the path to its map.
pub(super) fn first_of(text: &str, map: &[String], key: &str) -> Option<Place> {
    let options = options(DuplicateKeyPolicy::FirstWins);
    let root: Node = serde_yaml::from_str_with_options(text, options).ok()?;
    let mut node = &root;
    for step in map {
        node = match &node.content {
            Content::Map(entries) => &entries.iter().find(|e| e.key == *step)?.node,
            Content::List(items) => items.get(position(step)?)?,
            _ => return None,
        };
    }
    match &node.content {
        Content::Map(entries) => Some(entries.iter().find(|e| e.key == key)?.place),
        _ => None,
    }
}

/// A step into a list, as it stands in the path of a key.
pub(super) fn list_step(position: usize) -> String {
    format!("[{position}]")
}

fn position(step: &str) -> Option<usize> {
    step.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Content>::deserialize(deserializer)?;
        // Where a value comes by an alias, its own text is what has to be changed.
        let location = spanned.defined;
        let span = location.span();
        let start = span.byte_offset().unwrap_or(0);
        let end = start.saturating_add(span.byte_len().unwrap_or(0));
        Ok(Self {
            content: spanned.value,
            place: Place::of(location).unwrap_or(Place::START),
            bytes: usize::try_from(start).unwrap_or(0)..usize::try_from(end).unwrap_or(0),
        })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list or a map")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Integer(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Integer(value.into()))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Content, E> {
        Ok(Content::Integer(value))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Content, E> {
        Ok(Content::Integer(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Content, E> {
        Ok(Content::Float)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Content, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Content::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Content, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = access.next_key::<Spanned<String>>()? {
            entries.push(Entry {
                place: Place::of(key.defined).unwrap_or(Place::START),
                key: key.value,
                node: access.next_value()?,
            });
        }
        Ok(Content::Map(entries))
    }
}

/// Walks a document and leaves the path to where it stopped in the list: a step is taken back only
/// once what it led to was read whole.
#[derive(Clone, Copy)]
struct Trace<'a>(&'a RefCell<Vec<String>>);

impl Trace<'_> {
    fn enter(self, step: String) {
        self.0.borrow_mut().push(step);
    }

    fn leave(self) {
        self.0.borrow_mut().pop();
    }
}

impl<'de> DeserializeSeed<'de> for Trace<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Trace<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list or a map")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<(), E> {
        Ok(())
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        for position in 0_usize.. {
            self.enter(list_step(position));
            if access.next_element_seed(self)?.is_none() {
                break;
            }
            self.leave();
        }
        self.leave();
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        while let Some(key) = access.next_key::<String>()? {
            self.enter(key);
            access.next_value_seed(self)?;
            self.leave();
        }
        Ok(())
    }
}
