//! Charts of schedules, simulated and measured, and what they are drawn as.

use std::time::Duration;

use serde_json::Value;
use slimpipe_pipeline::execute::{Span, Work};
use slimpipe_pipeline::schedule::{Exchange, Pass, Schedule, ScheduleKind, Unit};
use slimpipe_pipeline::simulate::{Equal, Growing};
use slimpipe_train::draw::{Bar, Chart, Kind, page, perfetto, portable, simulated, terminal};

const EQUAL: Equal = Equal { forward: 1.0, backward: 2.0 };

fn slimpipe(p: u32, n: u32, m: u32, v: u32) -> Schedule {
    Schedule::new(ScheduleKind::SlimPipe, p, n, m, v).unwrap()
}

fn chart(schedule: &Schedule) -> Chart {
    simulated("a & b </script>".to_owned(), schedule, &EQUAL).unwrap().0
}

#[test]
fn a_chart_has_every_units_bars_and_the_simulations_bubble_and_peaks() {
    let schedule = slimpipe(4, 8, 2, 2);
    let (chart, outcome) = simulated(String::new(), &schedule, &EQUAL).unwrap();
    assert_eq!(chart.end(), outcome.makespan);
    assert!((chart.bubble() - outcome.bubble()).abs() < 1e-12);
    assert!(!chart.is_in_bytes);
    for (rank, (row, found)) in chart.ranks.iter().zip(&outcome.ranks).enumerate() {
        assert_eq!(row.bars.len() as u64, 2 * schedule.units());
        assert_eq!(row.peak(), found.in_flight_peak as f64);
        assert_eq!(row.peak(), schedule.in_flight_peak(rank as u32) as f64);
        assert_eq!(row.held.last().unwrap().1, 0.0);
        assert!(row.bars.windows(2).all(|pair| pair[0].end <= pair[1].begin));
    }
}

#[test]
fn ranks_that_help_without_a_unit_are_drawn() {
    let schedule = slimpipe(4, 8, 1, 1).with_exchange(Exchange::Balanced).unwrap();
    let costs =
        Growing { forward: 1.0, backward: 2.0, attention: 1.0, layers: Some(2), projections: 0.25 };
    let (chart, _) = simulated(String::new(), &schedule, &costs).unwrap();
    let helps = |row: &slimpipe_train::draw::Row| row.bars.iter().any(|b| b.kind == Kind::Help);
    assert!(chart.ranks.iter().all(helps));
}

fn span(work: Work, start: u64, end: u64) -> Span {
    let (start, end) = (Duration::from_millis(start), Duration::from_millis(end));
    Span { work, start, end, held: 0 }
}

/// Two ranks; the forward of the second comes in two pieces.
fn measured() -> Chart {
    let unit = Unit { microbatch: 1, slice: 12, chunk: 3 };
    let ranks = [
        vec![span(Work::Forward(unit), 100, 110), span(Work::Backward(unit), 150, 170)],
        vec![
            span(Work::ReceiveActivation { unit, from: 0 }, 105, 112),
            span(Work::Forward(unit), 112, 120),
            span(Work::AttendFor(unit, Pass::Forward), 120, 125),
            span(Work::Forward(unit), 125, 130),
            span(Work::Backward(unit), 130, 150),
        ],
    ];
    Chart::measured("run".to_owned(), ranks.map(|spans| portable(&spans)).into(), Some(7))
}

#[test]
fn measured_spans_begin_at_zero_and_units_are_in_flight_from_their_first_piece_to_their_last() {
    let chart = measured();
    assert!((chart.end() - 0.07).abs() < 1e-9);
    let [first, second] = &chart.ranks[..] else { panic!("two ranks") };
    let rounded = |held: &[(f64, f64)]| -> Vec<(i64, f64)> {
        held.iter().map(|(at, held)| ((1e3 * at).round() as i64, *held)).collect()
    };
    assert_eq!(rounded(&first.held), [(0, 1.0), (70, 0.0)]);
    assert_eq!(rounded(&second.held), [(12, 1.0), (50, 0.0)]);
    assert_eq!(second.bars[0].kind, Kind::Other);
    assert_eq!(second.bars[2].kind, Kind::Help);
    assert!((second.busy() - 0.038).abs() < 1e-9);
}

#[test]
fn a_timeline_is_read_as_it_was_written_with_and_without_bytes() {
    is_read_as_written(&measured());
    let unit = Unit { microbatch: 0, slice: 0, chunk: 0 };
    let mut spans = [span(Work::Forward(unit), 100, 110), span(Work::Backward(unit), 150, 170)];
    (spans[0].held, spans[1].held) = (3 << 20, 1 << 20);
    let chart = Chart::measured("run".to_owned(), vec![portable(&spans)], Some(7));
    assert!(chart.is_in_bytes);
    assert_eq!(chart.ranks[0].peak(), 3145728.0);
    is_read_as_written(&chart);
}

fn is_read_as_written(chart: &Chart) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("timeline.json");
    std::fs::write(&path, perfetto(std::slice::from_ref(chart)).to_string()).unwrap();
    let found = Chart::read(&path).unwrap();
    let outline = |chart: &Chart| -> Vec<Vec<(String, i64, i64)>> {
        let micros = |at: f64| (1e6 * at).round() as i64;
        let of = |bar: &Bar| (bar.label.clone(), micros(bar.begin), micros(bar.end));
        chart.ranks.iter().map(|row| row.bars.iter().map(of).collect()).collect()
    };
    assert_eq!(outline(&found), outline(chart));
    let held = |chart: &Chart| -> Vec<Vec<(i64, f64)>> {
        let micros = |(at, held): &(f64, f64)| ((1e6 * at).round() as i64, *held);
        chart.ranks.iter().map(|row| row.held.iter().map(micros).collect()).collect()
    };
    assert_eq!(held(&found), held(chart));
    assert_eq!((found.is_in_bytes, found.began), (chart.is_in_bytes, chart.began));
    let peers = |chart: &Chart| -> Vec<Option<u32>> {
        chart.ranks.iter().flat_map(|row| &row.bars).map(|bar| bar.peer).collect()
    };
    assert_eq!(peers(&found), peers(chart));
}

#[test]
fn arrows_lead_from_sends_to_the_receives_of_the_same_messages() {
    let unit = |slice, chunk| Unit { microbatch: 1, slice, chunk };
    let send = |slice, chunk, to| Work::SendActivation { unit: unit(slice, chunk), to };
    let receive = |slice, chunk, from| Work::ReceiveActivation { unit: unit(slice, chunk), from };
    // Slice 0 goes from rank 0 to rank 1 and, as the next chunk, there again.
    let ranks = [
        vec![
            span(send(0, 0, 1), 10, 12),
            span(send(1, 0, 1), 20, 22),
            span(receive(0, 1, 1), 15, 30),
            span(send(0, 1, 1), 40, 42),
        ],
        vec![
            span(receive(0, 0, 0), 0, 14),
            span(send(0, 0, 0), 25, 26),
            span(receive(1, 0, 0), 26, 28),
            span(receive(0, 1, 0), 28, 50),
        ],
    ];
    let chart = Chart::measured("run".to_owned(), ranks.map(|spans| portable(&spans)).into(), None);
    let trace = perfetto(&[chart]);
    let events = trace["traceEvents"].as_array().unwrap();
    let ends = |phase: &str| -> Vec<(u64, u64, i64)> {
        let of_phase = events.iter().filter(|event| event["ph"] == phase);
        let number = |event: &Value, key: &str| event[key].as_u64().unwrap();
        of_phase
            .map(|e| {
                let at = (e["ts"].as_f64().unwrap() / 1e3).round() as i64;
                (number(e, "id"), number(e, "tid"), at)
            })
            .collect()
    };
    assert_eq!(ends("s"), [(1, 1, 10), (2, 1, 20), (3, 3, 25), (4, 1, 40)]);
    assert_eq!(ends("f"), [(1, 3, 14), (2, 3, 28), (3, 1, 30), (4, 3, 50)]);
}

#[test]
fn what_is_no_timeline_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("timeline.json");
    let span = |tid: &str, dur: &str| {
        format!(
            r#"{{"traceEvents": [{{"ph": "X", "name": "F mb0 s0", "pid": 0, "tid": {tid}, "ts": 0, "dur": {dur}}}]}}"#
        )
    };
    for (text, told) in [
        ("", "EOF"),
        ("{}", "traceEvents"),
        (r#"{"traceEvents": []}"#, "no spans"),
        (&*span("123456789", "1"), "rank 61728394"),
        (&*span("0", "-1"), "no duration"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = Chart::read(&path).unwrap_err().to_string();
        assert!(error.contains(told) && error.contains("timeline.json"), "{text}: {error}");
    }
    assert!(Chart::read(&dir.path().join("none")).is_err());
}

#[test]
fn perfetto_has_a_process_per_chart_tracks_per_rank_and_counters() {
    let trace = perfetto(&[chart(&slimpipe(2, 2, 1, 1)), measured()]);
    let events = trace["traceEvents"].as_array().unwrap();
    let count = |ph: &str, pid: u64| {
        events.iter().filter(|event| event["ph"] == ph && event["pid"] == pid).count()
    };
    assert_eq!([count("X", 0), count("X", 1)], [8, 7]);
    assert!(count("C", 0) > 0 && count("C", 1) > 0);
    for event in events {
        assert!(event["name"].is_string(), "{event}");
        let complete = event["ph"] != "X" || (event["ts"].is_number() && event["dur"].is_number());
        assert!(complete, "{event}");
    }
}

#[test]
fn a_page_holds_its_data_whatever_the_titles_and_asks_nothing_of_the_network() {
    let chart = chart(&slimpipe(2, 4, 1, 1));
    let text = page(&[chart.clone(), measured()]).unwrap();
    for from_elsewhere in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!text.contains(from_elsewhere), "{from_elsewhere}");
    }
    assert!(!text.contains("/*data*/") && !text.contains("/*script*/"));
    let (_, rest) = text.split_once(r#"<script type="application/json" id="data">"#).unwrap();
    let (data, _) = rest.split_once("</script>").unwrap();
    let data: Value = serde_json::from_str(data).unwrap();
    assert_eq!(data[0]["title"], "a & b </script>");
    assert_eq!(data[0]["end"], chart.end());
    let bars = &data[0]["ranks"][1]["bars"];
    assert_eq!(bars.as_array().unwrap().len(), chart.ranks[1].bars.len());
    assert_eq!(bars[0][4], chart.ranks[1].bars[0].label);
    assert_eq!(data[1]["seconds"], true);
}

#[test]
fn a_page_has_no_more_steps_than_it_needs_and_all_that_are_high() {
    let mut many = measured();
    let held = |at: usize| ((at % 1000) * (at % 7)) as f64;
    many.ranks[0].held = (0..500_000).map(|at| (at as f64, held(at))).collect();
    let text = page(&[many.clone()]).unwrap();
    let (_, rest) = text.split_once(r#"<script type="application/json" id="data">"#).unwrap();
    let data: Value = serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap();
    let steps = data[0]["ranks"][0]["held"].as_array().unwrap();
    assert!(steps.len() <= 20_000);
    let highest = steps.iter().map(|step| step[1].as_f64().unwrap()).fold(0.0, f64::max);
    assert_eq!(highest, many.ranks[0].peak());
}

#[test]
fn a_page_with_more_than_a_browser_draws_is_refused() {
    let row = chart(&slimpipe(1, 2, 1, 1)).ranks.remove(0);
    let bars = row.bars.iter().cycle().take(500_001).cloned().collect();
    let mut large = measured();
    large.ranks[0].bars = bars;
    assert!(page(&[large]).unwrap_err().to_string().contains("fewer ranks"));
}

#[test]
fn the_terminal_shows_forwards_as_digits_backwards_as_letters_and_idleness_as_dots() {
    // p = 2, n = 2: F0 F1 . . B1 B1 B0 B0 beside . F0 F1 B1 B1 B0 B0, in columns of half a unit.
    let text = terminal(&[chart(&slimpipe(2, 2, 1, 1))], 18);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains("idle 33.33 %"), "{text}");
    assert_eq!(lines[1], "   0 0011......bbbbaaaa");
    assert_eq!(lines[3], "   1 ..0011bbbbaaaa....");
    assert!(lines[2].ends_with("2 units"));
}
