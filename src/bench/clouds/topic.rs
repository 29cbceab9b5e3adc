//! Topic names and filters (MQTT 3.1.1 section 4.7), no I/O.

/// Whether `name` may be published to: not empty, no wildcard, no U+0000 (sections 4.7.1 and 4.7.3).
#[must_use]
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['+', '#', '\0'])
}

/// Whether `filter` may be subscribed to: wildcards fill whole levels, `#` only the last (section 4.7.1).
#[must_use]
pub fn is_filter(filter: &str) -> bool {
    if filter.is_empty() || filter.contains('\0') {
        return false;
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let whole = match level {
            "#" => levels.peek().is_none(),
            "+" => true,
            other => !other.contains(['+', '#']),
        };
        if !whole {
            return false;
        }
    }
    true
}

/// Whether a topic name falls under a filter. A wildcard at the front does not match names that begin with `$` (section 4.7.2).
/// `parent` says whether `a/#` covers `a` itself: MQTT says yes (section 4.7.1.2), AWS IoT Core says no.
#[must_use]
pub fn matches(filter: &str, name: &str, parent: bool) -> bool {
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = name.split('/');
    let mut wanted = filter.split('/').peekable();
    while let Some(want) = wanted.next() {
        if want == "#" {
            return parent || levels.next().is_some();
        }
        match levels.next() {
            Some(level) if want == "+" || want == level => {}
            _ => return false,
        }
        if parent && wanted.peek() == Some(&"#") && levels.clone().next().is_none() {
            return true;
        }
    }
    levels.next().is_none()
}

/// Whether everything that `inner` matches is matched by `outer` too: what a permission for `outer` allows one to subscribe to.
#[must_use]
pub fn covers(outer: &str, inner: &str) -> bool {
    if inner.starts_with('$') && outer.starts_with(['+', '#']) {
        return false;
    }
    let mut inner_levels = inner.split('/');
    for want in outer.split('/') {
        if want == "#" {
            return true;
        }
        match inner_levels.next() {
            Some("#") | None => return false,
            Some(level) if want == "+" || want == level => {}
            Some(_) => return false,
        }
    }
    inner_levels.next().is_none()
}

/// How many levels a topic has: `a/b` has two.
#[must_use]
pub fn levels(topic: &str) -> usize {
    topic.split('/').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_specification() {
        // Section 4.7.1.2, 4.7.1.3 and 4.7.2: filter, name, whether it matches.
        for (filter, name, want) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("#", "a/b", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/x", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/x", true),
            ("a/b", "a/b/c", false),
            ("a/b/c", "a/b", false),
            ("a", "A", false),
        ] {
            assert_eq!(matches(filter, name, true), want, "{filter} and {name}");
        }
        assert!(!matches("sensor/#", "sensor", false), "AWS IoT Core's way");
        assert!(matches("sensor/#", "sensor/1", false));
        assert!(matches("#", "sensor", false));
    }

    #[test]
    fn names_and_filters_are_told_apart() {
        for good in ["#", "+", "a/+/b", "a/#", "/", "a//b", "$SYS/+"] {
            assert!(is_filter(good), "{good}");
        }
        for bad in ["", "a#", "#/a", "a/#/b", "a+/b", "a\0"] {
            assert!(!is_filter(bad), "{bad:?}");
        }
        assert!(is_name("a/b") && is_name("/") && !is_name("") && !is_name("a/+") && !is_name("#"));
    }

    #[test]
    fn a_template_covers_what_it_may_cover() {
        for (outer, inner, want) in [
            ("exampletopics/#", "exampletopics/#", true),
            ("exampletopics/#", "exampletopics/+/x", true),
            ("exampletopics/#", "exampletopics", true),
            ("exampletopics/#", "#", false),
            ("exampletopics/#", "+/x", false),
            ("a/+", "a/b", true),
            ("a/+", "a/+", true),
            ("a/+", "a/#", false),
            ("a/b", "a/+", false),
            ("#", "$iothub/x", false),
            ("a/b", "a/b/c", false),
        ] {
            assert_eq!(covers(outer, inner), want, "{outer} and {inner}");
        }
    }

    proptest::proptest! {
        /// A covered filter never matches what its cover does not.
        #[test]
        fn covering_agrees_with_matching(outer in "(a|b|\\+)(/(a|b|\\+)){0,2}(/#)?", inner in "(a|b|\\+)(/(a|b|\\+)){0,2}(/#)?", name in "(a|b)(/(a|b)){0,3}") {
            if covers(&outer, &inner) && matches(&inner, &name, true) {
                proptest::prop_assert!(matches(&outer, &name, true));
            }
        }
    }
}
