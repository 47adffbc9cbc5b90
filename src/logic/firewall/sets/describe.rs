//! The macro `describe`: from the description of the sets it makes the type `Set`, what the table declares of each, and
//! the conversion of elements to entries and back.

/// Its input is two sections: the sets that exist once, and those that exist once per address family. An entry is
///
/// ```text
/// Element::VARIANT(FIELDS) as [KIND(FIELD), …], for PURPOSE {
///     /// What it holds.
///     SET "name": KIND(FIELD);
/// }
/// ```
///
/// - `Element::VARIANT(FIELDS)` is used as pattern and as expression.
/// - `as […]` is the key. Each `KIND(FIELD)` is a `Value`; the type of the field is the `Kind` with the same name.
/// - `: KIND(FIELD)` is the data of a map. An element that is in several maps has the same key in each.
/// - In the second section: two names (IPv4, IPv6), `of FAMILY` (the family of the element), and, if the key holds a
///   field twice, `where COPY == FIELD`.
macro_rules! describe {
    (
        once:
        $(Element::$element:ident($($inner:tt)*) as $key:tt, for $purpose:ident {
            $($(#[$doc:meta])* $set:ident $name:literal $(: $data:ident($datum:ident))?;)+
        })*
        per family:
        $(Element::$element_of:ident($($inner_of:tt)*) as $key_of:tt $(where $copy:ident == $original:ident)?,
        of $family:expr, for $purpose_of:ident {
            $($(#[$doc_of:meta])* $set_of:ident $name4:literal $name6:literal $(: $data_of:ident($datum_of:ident))?;)+
        })*
    ) => {
        /// A named set or map of netd's tables.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Set {
            $($($(#[$doc])* $set,)+)*
            $($($(#[$doc_of])* $set_of(Family),)+)*
        }

        const DESCRIBED: &[Set] = &[
            $($(Set::$set,)+)*
            $($(Set::$set_of(Family::V4), Set::$set_of(Family::V6),)+)*
        ];

        impl Set {
            /// The name in the table.
            pub fn name(self) -> &'static str {
                match self {
                    $($(Self::$set => $name,)+)*
                    $($(Self::$set_of(Family::V4) => $name4, Self::$set_of(Family::V6) => $name6,)+)*
                }
            }

            /// The fields of its key.
            pub fn key(self) -> &'static [Kind] {
                match self {
                    $($(Self::$set)|+ => describe!(@kinds $key),)*
                    $(
                        $(Self::$set_of(Family::V4))|+ => describe!(@kinds $key_of V4),
                        $(Self::$set_of(Family::V6))|+ => describe!(@kinds $key_of V6),
                    )*
                }
            }

            /// The type of a map's data; `None` for a set.
            pub fn data(self) -> Option<Kind> {
                match self {
                    $($(Self::$set => describe!(@optional $(describe!(@kind $data))?),)+)*
                    $($(
                        Self::$set_of(Family::V4) => describe!(@optional $(describe!(@kind $data_of V4))?),
                        Self::$set_of(Family::V6) => describe!(@optional $(describe!(@kind $data_of V6))?),
                    )+)*
                }
            }

            fn family(self) -> Option<Family> {
                match self {
                    $($(Self::$set)|+ => None,)*
                    $($(Self::$set_of(family))|+ => Some(family),)*
                }
            }

            fn purpose(self) -> Purpose {
                match self {
                    $($(Self::$set)|+ => Purpose::$purpose,)*
                    $($(Self::$set_of(_))|+ => Purpose::$purpose_of,)*
                }
            }

            /// The sets and maps in which the same element is, itself included, in the order of their description.
            fn with_same_element(self) -> &'static [Self] {
                match self {
                    $($(Self::$set)|+ => &[$(Self::$set),+],)*
                    $(
                        $(Self::$set_of(Family::V4))|+ => &[$(Self::$set_of(Family::V4)),+],
                        $(Self::$set_of(Family::V6))|+ => &[$(Self::$set_of(Family::V6)),+],
                    )*
                }
            }
        }

        /// The entries of an element: two for a published port, one for any other.
        pub fn entries(element: &Element) -> Vec<Entry> {
            match element.clone() {
                $(Element::$element($($inner)*) => vec![$(Entry {
                    set: Set::$set,
                    key: describe!(@values $key),
                    data: describe!(@optional $(Value::$data($datum))?),
                }),+],)*
                $(Element::$element_of($($inner_of)*) => {
                    $(let $copy = $original;)?
                    let family = $family;
                    vec![$(Entry {
                        set: Set::$set_of(family),
                        key: describe!(@values $key_of),
                        data: describe!(@optional $(Value::$data_of($datum_of))?),
                    }),+]
                })*
            }
        }

        /// The element with that key, and with these data in the sets of [`Set::with_same_element`].
        fn element(set: Set, key: &[Value], data: &[Option<Value>]) -> Option<Element> {
            match (set, key, data) {
                $((
                    $(Set::$set)|+,
                    describe!(@values_in $key),
                    [$(describe!(@optional $(Value::$data($datum))?)),+]
                ) => {
                    describe!(@own $key);
                    $($(let $datum = $datum.to_owned();)?)+
                    Some(Element::$element($($inner)*))
                })*
                $((
                    $(Set::$set_of(_))|+,
                    describe!(@values_in $key_of),
                    [$(describe!(@optional $(Value::$data_of($datum_of))?)),+]
                ) => {
                    describe!(@own $key_of);
                    $(if $copy != $original {
                        return None;
                    })?
                    $($(let $datum_of = $datum_of.to_owned();)?)+
                    Some(Element::$element_of($($inner_of)*))
                })*
                _ => None,
            }
        }
    };

    (@optional) => { None };
    (@optional $($some:tt)+) => { Some($($some)+) };

    (@kind Address $family:ident) => { Kind::Address(Family::$family) };
    (@kind Subnet $family:ident) => { Kind::Subnet(Family::$family) };
    (@kind $kind:ident $($family:ident)?) => { Kind::$kind };

    (@kinds [$($kind:ident($field:ident)),+]) => { &[$(describe!(@kind $kind)),+] };
    (@kinds [$($kind:ident($field:ident)),+] $family:ident) => { &[$(describe!(@kind $kind $family)),+] };

    (@values [$($kind:ident($field:ident)),+]) => { vec![$(Value::$kind($field)),+] };
    (@values_in [$($kind:ident($field:ident)),+]) => { [$(Value::$kind($field)),+] };
    (@own [$($kind:ident($field:ident)),+]) => { $(let $field = $field.to_owned();)+ };
}

pub(super) use describe;
