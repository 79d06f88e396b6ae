//! `/debug/api_priority_and_fairness/*`: the levels, queues and requests at the moment, as upstream's tables.
//! Upstream: util/flowcontrol/apf_controller_debug.go.

use super::queues::Shape;
use super::requests::{Request, State};
use super::{Fairness, Level};
use crate::query::Query;
use crate::request_info::RequestInfo;
use crate::response::{self, Answer};
use crate::server::Inner;

const LEVELS: [&str; 10] = [
    "PriorityLevelName",
    "ActiveQueues",
    "IsIdle",
    "IsQuiescing",
    "WaitingRequests",
    "ExecutingRequests",
    "DispatchedRequests",
    "RejectedRequests",
    "TimedoutRequests",
    "CancelledRequests",
];
const QUEUES: [&str; 9] = [
    "PriorityLevelName",
    "Index",
    "PendingRequests",
    "ExecutingRequests",
    "SeatsInUse",
    "NextDispatchR",
    "InitialSeatsSum",
    "MaxSeatsSum",
    "TotalWorkSum",
];
const REQUESTS: [&str; 10] = [
    "PriorityLevelName",
    "FlowSchemaName",
    "QueueIndex",
    "RequestIndexInQueue",
    "FlowDistingsher",
    "ArriveTime",
    "InitialSeats",
    "FinalSeats",
    "AdditionalLatency",
    "StartTime",
];
/// With `includeRequestDetails`.
const DETAILS: [&str; 8] = [
    "UserName",
    "Verb",
    "APIPath",
    "Namespace",
    "Name",
    "APIVersion",
    "Resource",
    "SubResource",
];
/// The time of what has not begun.
const NEVER: &str = "0001-01-01T00:00:00Z";
/// Narrowest column and the space behind each, as upstream's.
const CELL: usize = 8;
const PADDING: usize = 1;

/// Answers a dump.
pub fn serve(server: &Inner, what: &str, query: &Query) -> Answer {
    let fairness = &server.fairness;
    let text = match what {
        "dump_priority_levels" => table(&LEVELS, &fairness.level_rows()),
        "dump_queues" => table(&QUEUES, &fairness.queue_rows()),
        "dump_requests" => {
            let detailed = query.get("includeRequestDetails");
            let detailed = detailed.is_some_and(|v| !v.is_empty());
            let heads = match detailed {
                true => [&REQUESTS[..], &DETAILS].concat(),
                false => REQUESTS.to_vec(),
            };
            table(&heads, &fairness.request_rows(detailed))
        }
        _ => return response::text(404, "404 page not found"),
    };
    response::bytes(200, "text/plain; charset=utf-8", text)
}

impl Fairness {
    fn sorted(&self) -> Vec<std::sync::Arc<Level>> {
        let mut levels = self.config.read().levels.clone();
        levels.sort_by(|a, b| a.name.cmp(&b.name));
        levels
    }

    fn level_rows(&self) -> Vec<Vec<String>> {
        let row = |level: &std::sync::Arc<Level>| {
            let totals = self.counters.of_level(&level.name);
            let set = level.set.lock();
            let active = set.dump().iter().filter(|q| q.waiting > 0).count();
            let quiescing = level.state().shape.is_none();
            let mut row = vec![
                level.name.clone(),
                active.to_string(),
                set.is_idle().to_string(),
                quiescing.to_string(),
                set.waiting.to_string(),
                set.executing.to_string(),
            ];
            row.extend(totals.map(|n| n.to_string()));
            row
        };
        self.sorted().iter().map(row).collect()
    }

    fn request_rows(&self, detailed: bool) -> Vec<Vec<String>> {
        let levels = self.sorted();
        levels.iter().flat_map(|l| l.rows(detailed)).collect()
    }

    fn queue_rows(&self) -> Vec<Vec<String>> {
        let mut out = Vec::new();
        for level in self.sorted() {
            let Some(Shape::Queue { queues, .. }) = level.state().shape else {
                continue;
            };
            let busy = level.set.lock().dump();
            for index in 0..queues {
                let queue = busy.iter().find(|q| q.index == index);
                let queue = queue.copied().unwrap_or_default();
                out.push(vec![
                    level.name.clone(),
                    index.to_string(),
                    queue.waiting.to_string(),
                    queue.executing.to_string(),
                    queue.seats_in_use.to_string(),
                    format!("{:.8}ss", queue.next),
                    queue.seats_waiting.to_string(),
                    queue.seats_waiting.to_string(),
                    format!("{:.8}ss", queue.work),
                ]);
            }
        }
        out
    }
}

impl Level {
    /// Those who wait, by queue and place, and those who run, by the queue that they came from.
    fn rows(&self, detailed: bool) -> Vec<Vec<String>> {
        // A request is noted after it came and forgotten before it goes: what is not in both is left out.
        let queues = self.set.lock().tickets();
        let place = |ticket: u64| {
            queues.iter().find_map(|(queue, tickets)| {
                let place = tickets.iter().position(|t| *t == ticket)?;
                Some((i64::from(*queue), i64::try_from(place).ok()?))
            })
        };
        let placed = |r: Request| match r.state {
            State::Waits(ticket) => Some((place(ticket)?, r)),
            State::Runs(_, queue) => Some(((queue.map_or(-1, i64::from), -1), r)),
        };
        let mut all: Vec<_> = self.requests.all().into_iter().filter_map(placed).collect();
        // Of each queue those who wait first; those without a queue last.
        all.sort_by_key(|((queue, place), _)| (*queue as u64, *place as u64));
        let row = |(at, request)| request_row(&self.name, at, &request, detailed);
        all.into_iter().map(row).collect()
    }
}

fn request_row(level: &str, at: (i64, i64), r: &Request, detailed: bool) -> Vec<String> {
    let started = match r.state {
        State::Waits(_) => NEVER.to_string(),
        State::Runs(since, _) => since.to_string(),
    };
    let mut row = vec![
        level.to_string(),
        r.schema.clone(),
        at.0.to_string(),
        at.1.to_string(),
        r.flow.clone(),
        r.arrived.to_string(),
        r.seats.to_string(),
        // Requests have all their seats from the beginning to the end.
        "0".into(),
        "0s".into(),
        started,
    ];
    if detailed {
        let i: &RequestInfo = &r.info;
        let version = match i.group.as_str() {
            "" => i.version.clone(),
            group => format!("{group}/{}", i.version),
        };
        row.push(r.user.clone());
        row.extend([&i.verb, &i.path, &i.namespace, &i.name].map(String::clone));
        row.push(version);
        row.extend([&i.resource, &i.subresource].map(String::clone));
    }
    row
}

/// Rows of cells with commas between them, the columns below each other.
fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let heads = heads.iter().map(|h| (*h).to_string()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&heads).chain(rows).collect();
    let width = |i: usize| {
        let longest = all.iter().map(|row| row[i].len() + 1).max();
        (longest.unwrap_or(0) + PADDING).max(CELL)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let mut out = String::new();
    for row in all {
        for (i, cell) in row.iter().enumerate() {
            if i + 1 == row.len() {
                out.push_str(cell);
            } else {
                let cell = format!("{cell},");
                out.push_str(&format!("{cell:<width$}", width = widths[i]));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_laid_out_as_upstreams() {
        let rows = [vec!["exempt".to_string(), "12".into(), "true".into()]];
        let text = table(&["Name", "Index", "IsIdle"], &rows);
        assert_eq!(text, "Name,   Index,  IsIdle\nexempt, 12,     true\n");
    }

    #[test]
    fn a_fresh_server_has_its_mandatory_levels() {
        let fairness = Fairness::new(600);
        let rows = fairness.level_rows();
        let names: Vec<&str> = rows.iter().map(|r| r[0].as_str()).collect();
        assert_eq!(names, ["catch-all", "exempt"]);
        assert!(
            rows.iter()
                .all(|r| r.len() == LEVELS.len() && r[2] == "true")
        );
        assert!(
            fairness
                .queue_rows()
                .iter()
                .all(|r| r.len() == QUEUES.len())
        );
    }
}
