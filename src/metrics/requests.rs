//! HTTP requests by route and class of status.
//!
//! The routes are a closed set of templates, so that no client can make the counts grow.

use std::collections::BTreeMap;

use super::Counter;

/// The route of what was answered by none.
pub const UNMATCHED: &str = "unmatched";
/// The classes of HTTP statuses: 100 to 199, and so on.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// How many requests were answered, by route and class of status.
#[derive(Debug)]
pub struct Requests(BTreeMap<&'static str, [Counter; CLASSES.len()]>);

/// How many requests of one route were answered with one class of status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// The route's template, or [`UNMATCHED`].
    pub route: &'static str,
    /// `2xx` and so on.
    pub status: &'static str,
    /// How many; not 0.
    pub count: u64,
}

impl Requests {
    /// Nothing yet, for these templates and [`UNMATCHED`].
    pub fn new(templates: impl IntoIterator<Item = &'static str>) -> Self {
        let routes = templates.into_iter().chain([UNMATCHED]);
        Self(routes.map(|route| (route, Default::default())).collect())
    }

    /// Counts an answer. A route that is none of the templates counts as [`UNMATCHED`].
    pub fn answered(&self, route: &str, status: u16) {
        let classes = self.0.get(route).or_else(|| self.0.get(UNMATCHED));
        let class = usize::from(status / 100).checked_sub(1);
        if let (Some(classes), Some(class)) = (classes, class)
            && let Some(counter) = classes.get(class)
        {
            counter.add_one();
        }
    }

    /// What was counted so far, by route and class; without those that never occurred.
    pub fn counts(&self) -> Vec<Answered> {
        let each = self.0.iter().flat_map(|(route, classes)| {
            let of_class = |(status, counter): (&&'static str, &Counter)| Answered {
                route,
                status,
                count: counter.get(),
            };
            CLASSES.iter().zip(classes).map(of_class)
        });
        each.filter(|answered| answered.count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_route_and_class() {
        let requests = Requests::new(["/a", "/b/{name}"]);
        for (route, status) in
            [("/a", 200), ("/a", 204), ("/a", 404), ("/b/{name}", 500), ("/b/x", 400), ("/a", 0), ("/a", 999)]
        {
            requests.answered(route, status);
        }
        let answered = |route, status, count| Answered { route, status, count };
        let expected = [
            answered("/a", "2xx", 2),
            answered("/a", "4xx", 1),
            answered("/b/{name}", "5xx", 1),
            answered(UNMATCHED, "4xx", 1),
        ];
        assert_eq!(requests.counts(), expected);
    }
}
