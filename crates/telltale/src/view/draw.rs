//! Draws a [`Screen`] in a terminal of any size.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Paragraph, Row, Sparkline, Table};

use super::numbers::{clock, figure, grouped, rate, whole_percent};
use super::screen::{Screen, Verdict, WorstCar};

/// How long a swap stays highlighted.
const SWAP_SHOWN: Duration = Duration::from_secs(6);

const ACCENT: Color = Color::Cyan;
const GOOD: Color = Color::Green;
const BAD: Color = Color::Red;
const EARLY: Color = Color::Yellow;

/// Draws the whole view.
pub fn draw(frame: &mut Frame<'_>, screen: &Screen) {
    let stages_height = u16::try_from(screen.stages.len()).unwrap_or(u16::MAX).saturating_add(3);
    let warnings_height =
        if screen.warnings.is_empty() { 0 } else { 2 + screen.warnings.len().min(3) as u16 };
    let [head, stages, models, cars, warnings, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(stages_height),
        Constraint::Length(5),
        Constraint::Min(3),
        Constraint::Length(warnings_height),
        Constraint::Length(2),
    ])
    .areas(frame.area());
    draw_head(frame, head, screen);
    let [stages, latency] = Layout::horizontal([Constraint::Min(40), Constraint::Max(34)]).areas(stages);
    draw_stages(frame, stages, screen);
    draw_latency(frame, latency, screen);
    draw_models(frame, models, screen);
    draw_cars(frame, cars, screen);
    if warnings_height > 0 {
        draw_warnings(frame, warnings, screen);
    }
    draw_foot(frame, foot, screen);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let [left, right] = Layout::horizontal([Constraint::Min(10), Constraint::Length(22)]).areas(area);
    let fleet = if screen.connected < screen.cars {
        format!("{} of {} cars connected", grouped(screen.connected), grouped(screen.cars))
    } else {
        format!("{} cars", grouped(screen.cars))
    };
    let line = Line::from(vec![
        Span::styled(" telltale ", Style::new().fg(Color::Black).bg(ACCENT).add_modifier(Modifier::BOLD)),
        Span::raw(format!(" {fleet}, {} a second each, seed {}", screen.rate, screen.seed)),
        Span::styled(format!("  {}", screen.phase.text()), Style::new().fg(ACCENT)),
    ]);
    frame.render_widget(Paragraph::new(line), left);
    let time = match screen.length {
        Some(length) => format!("{} of {} ", clock(screen.elapsed), clock(length)),
        None => format!("{} ", clock(screen.elapsed)),
    };
    frame.render_widget(Paragraph::new(time).alignment(Alignment::Right), right);
}

fn block(title: &str) -> Block<'_> {
    Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(Style::new().fg(Color::DarkGray))
        .title(Span::styled(format!(" {title} "), Style::new().fg(ACCENT).add_modifier(Modifier::BOLD)))
}

fn draw_stages(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let rows = screen.stages.iter().map(|it| {
        let lag = it.lag.map_or_else(|| "–".to_owned(), grouped);
        // More than a second of work in wait is worth a look.
        let behind = it.lag.is_some_and(|lag| lag as f64 > (screen.cars as f64 * screen.rate).max(10.0));
        let lag_style = if behind { Style::new().fg(EARLY) } else { Style::new() };
        Row::new([
            Line::styled(it.stage, Style::new().add_modifier(Modifier::BOLD)),
            Line::styled(it.writes, Style::new().fg(Color::Gray)),
            Line::raw(grouped(it.records)).right_aligned(),
            Line::raw(rate(it.per_second)).right_aligned(),
            Line::styled(lag, lag_style).right_aligned(),
        ])
    });
    let header = ["stage", "writes", "records", "per second", "lag"];
    let header = header.iter().enumerate().map(|(index, name)| {
        let line = Line::raw(*name);
        if index > 1 { line.right_aligned() } else { line }
    });
    let widths = [
        Constraint::Length(13),
        Constraint::Fill(1),
        Constraint::Length(12),
        Constraint::Length(10),
        Constraint::Length(9),
    ];
    let header = Row::new(header).style(Style::new().fg(Color::DarkGray));
    frame.render_widget(Table::new(rows, widths).header(header).block(block("the way of the data")), area);
}

fn draw_latency(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let title = match screen.latency_ms {
        Some((p50, p99)) => format!("p50 {p50} ms, p99 {p99} ms"),
        None => "latency".to_owned(),
    };
    let block = block(&title);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [chart, caption] = Layout::vertical([Constraint::Min(1), Constraint::Length(1)]).areas(inner);
    let skipped = screen.latency_history.len().saturating_sub(chart.width as usize);
    let newest = &screen.latency_history[skipped..];
    frame.render_widget(Sparkline::default().data(newest).style(Style::new().fg(ACCENT)), chart);
    let caption_text = "publish → committed prediction";
    frame.render_widget(Paragraph::new(caption_text).style(Style::new().fg(Color::DarkGray)), caption);
}

fn draw_models(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let mut lines = Vec::new();
    if let Some(model) = screen.model() {
        let since = screen.elapsed.saturating_sub(model.since);
        let swapped = format!(" version {} in force since {} ", model.version, clock(model.since));
        let style = Style::new().add_modifier(Modifier::BOLD);
        let fresh = since < SWAP_SHOWN;
        let style = if fresh { style.fg(Color::Black).bg(GOOD) } else { style.fg(GOOD) };
        let word = if screen.models.len() > 1 { "swapped in" } else { "first model" };
        let ago = if fresh { format!("  {word} {} s ago", since.as_secs()) } else { String::new() };
        lines.push(Line::from(vec![Span::styled(swapped, style), Span::styled(ago, Style::new().fg(GOOD))]));
        lines.push(Line::raw(format!(
            " learnt from {} readings in {:.1} s, threshold {}, sha256 {}…",
            grouped(model.rows),
            model.training.as_secs_f64(),
            figure(model.threshold),
            model.sha256.get(..12).unwrap_or(&model.sha256),
        )));
    } else {
        lines.push(Line::raw(" none yet: the trainer reads the log, the scorer waits and loses nothing"));
    }
    let earlier: Vec<String> = screen
        .models
        .iter()
        .skip(1)
        .take(8)
        .map(|it| format!("v{} from {}", it.version, clock(it.since)))
        .collect();
    if !earlier.is_empty() {
        let text = format!(" before it: {}", earlier.join(", "));
        lines.push(Line::styled(text, Style::new().fg(Color::DarkGray)));
    }
    frame.render_widget(Paragraph::new(lines).block(block("model")), area);
}

fn draw_cars(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let rows = screen.worst.iter().map(car_row);
    let widths = [Constraint::Length(12), Constraint::Length(7), Constraint::Fill(1), Constraint::Length(36)];
    let header = Row::new([
        Line::raw("car"),
        Line::raw("× limit").right_aligned(),
        Line::raw("sensors that say so"),
        Line::raw("truth"),
    ]);
    let (right, near, wrong) = screen.alarms;
    let title = format!(
        "worst cars – alarms so far: {} right, {} early or late, {} wrong",
        grouped(right),
        grouped(near),
        grouped(wrong)
    );
    let table = Table::new(rows, widths)
        .header(header.style(Style::new().fg(Color::DarkGray)))
        .column_spacing(2)
        .block(block(&title));
    frame.render_widget(table, area);
}

fn car_row(car: &WorstCar) -> Row<'_> {
    let (mark, text, colour) = match &car.verdict {
        Verdict::Right(mode) => ("✔", mode.as_str(), GOOD),
        Verdict::Early(mode) => ("✔", mode.as_str(), EARLY),
        Verdict::Repaired(mode) => ("·", mode.as_str(), Color::DarkGray),
        Verdict::Wrong => ("✘", "healthy", BAD),
    };
    let suffix = match &car.verdict {
        Verdict::Early(_) => " (just begun)",
        Verdict::Repaired(_) => " (just repaired)",
        Verdict::Right(_) | Verdict::Wrong => "",
    };
    let sensors: Vec<String> =
        car.sensors.iter().map(|(name, share)| format!("{name} {}", whole_percent(*share))).collect();
    Row::new([
        Line::styled(car.car.as_str(), Style::new().add_modifier(Modifier::BOLD)),
        Line::raw(format!("{:.1}", car.times_threshold)).right_aligned(),
        Line::raw(sensors.join(", ")),
        Line::styled(format!("{mark} {text}{suffix}"), Style::new().fg(colour)),
    ])
}

fn draw_warnings(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let newest = screen.warnings.iter().rev().take(3).rev();
    let lines: Vec<Line<'_>> = newest.map(|it| Line::styled(it.as_str(), Style::new().fg(EARLY))).collect();
    frame.render_widget(Paragraph::new(lines).block(block("warnings")), area);
}

fn draw_foot(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let mut parts = Vec::new();
    if let Some(cores) = screen.cores_busy {
        parts.push(format!("{cores:.2} cores busy"));
    }
    if let Some(memory) = screen.memory_mb {
        parts.push(format!("{memory:.0} MB"));
    }
    parts.push("Ctrl-C or q stops, drains and verifies".to_owned());
    let lines = [format!(" {}", parts.join(" · ")), format!(" {}", screen.addresses)];
    let lines = lines.map(|it| Line::styled(it, Style::new().fg(Color::DarkGray)));
    frame.render_widget(Paragraph::new(lines.to_vec()), area);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::screen::{ModelInForce, example};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn drawn(screen: &Screen, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, screen)).unwrap();
        let buffer = terminal.backend().buffer();
        let mut text = String::new();
        for y in 0..height {
            (0..width).for_each(|x| text.push_str(buffer[(x, y)].symbol()));
            text.push('\n');
        }
        text
    }

    #[test]
    fn shows_stages_model_swap_and_worst_cars_with_the_truth() {
        let text = drawn(&example(), 120, 30);
        for part in [
            "1,000 cars, 1 a second each, seed 7",
            "0:42 of 1:00",
            "SENSOR_DATA_S_AVRO",
            "40,990",
            "p50 31 ms, p99 74 ms",
            "version 2 in force since 0:40",
            "swapped in 2 s ago",
            "learnt from 35,000 readings in 1.8 s, threshold 2.500, sha256 0123456789ab…",
            "before it: v1 from 0:08",
            "TIRE_PRESSURE11 61 %, SPEED 20 %",
            "✔ tyre-leak",
            "✘ healthy",
            "312 right, 20 early or late, 4 wrong",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn says_that_there_is_no_model_yet() {
        let screen = Screen { models: Vec::<ModelInForce>::new(), connected: 400, ..example() };
        let text = drawn(&screen, 120, 30);
        assert!(text.contains("none yet: the trainer reads the log"), "{text}");
        assert!(text.contains("400 of 1,000 cars connected"), "{text}");
    }

    #[test]
    fn a_terminal_of_any_size_will_do() {
        let screen = Screen { warnings: vec!["a".into(), "b".into()], ..example() };
        for (width, height) in [(1, 1), (20, 5), (80, 24), (300, 100)] {
            drawn(&screen, width, height);
        }
    }
}
