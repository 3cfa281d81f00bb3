//! The chart: for each id how much of its bound is used, the worst of its lines.

use super::line::{Gate, Line};

const WIDTH: f64 = 720.0;
const LEFT: f64 = 56.0;
const TOP: f64 = 40.0;
const ROW: f64 = 22.0;
const BAR: f64 = 14.0;
/// Where the axis ends, in multiples of the bound.
const MOST: f64 = 1.5;
/// Width of the axis; what is right of it is for the texts.
const AXIS: f64 = 460.0;

/// Draws it as SVG. No script and no font of its own; the colours follow the reader's scheme, light or dark.
pub(super) fn draw(lines: &[Line]) -> String {
    let mut bars: Vec<(&Line, f64)> = Vec::new();
    for line in lines {
        let Some(share) = line.share() else { continue };
        match bars.iter_mut().find(|(drawn, _)| drawn.id == line.id) {
            Some(bar) if share > bar.1 => *bar = (line, share),
            Some(_) => {}
            None => bars.push((line, share)),
        }
    }
    let height = TOP + ROW * bars.len() as f64 + 16.0;
    let x = |share: f64| LEFT + AXIS * share.min(MOST) / MOST;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" aria-label=\"measured divided by bound\">\n{STYLE}"
    );
    svg += &format!(
        "<text x=\"{LEFT}\" y=\"16\">measured ÷ bound (the worst of each id; shorter is better)</text>\n"
    );
    let bottom = height - 12.0;
    for tick in [0.0, 0.5, 1.0, MOST] {
        let (at, class) = (x(tick), if tick == 1.0 { "bound" } else { "tick" });
        svg += &format!(
            "<line class=\"{class}\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
             <text class=\"small\" x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{tick}</text>\n",
            TOP - 6.0
        );
    }
    for (number, (line, share)) in bars.iter().enumerate() {
        let y = TOP + ROW * number as f64 + 4.0;
        let class = match line.gate {
            _ if *share > 1.0 => "miss",
            Gate::Hard => "hard",
            Gate::Report => "report",
        };
        let (length, base) = ((x(*share) - LEFT).max(1.0), y + BAR - 3.0);
        svg += &format!(
            "<text x=\"{:.1}\" y=\"{base:.1}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{class}\" x=\"{LEFT}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{BAR}\" rx=\"2\"/>\
             <text class=\"small\" x=\"{:.1}\" y=\"{base:.1}\">{} ({})</text>\n",
            LEFT - 8.0,
            escape(&line.id),
            LEFT + AXIS + 12.0,
            escape(&line.measured),
            escape(&line.bound),
        );
    }
    svg + "</svg>\n"
}

const STYLE: &str = "\
<style>
text { font: 13px system-ui, sans-serif; fill: #24292f }
.small { font-size: 11px; fill: #57606a }
.tick { stroke: #d0d7de }
.bound { stroke: #cf222e; stroke-width: 1.5 }
.hard { fill: #0969da }
.report { fill: #8c959f }
.miss { fill: #cf222e }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.small { fill: #9198a1 }
.tick { stroke: #3d444d }
.bound { stroke: #f85149 }
.hard { fill: #4493f8 }
.report { fill: #656c76 }
.miss { fill: #f85149 }
}
</style>
";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::line::tests::line;
    use super::draw;

    #[test]
    fn each_id_has_one_bar_for_its_worst_line() {
        let svg = draw(&[
            line("P1 | a | 1 | <= 4 x guard | hard | holds"),
            line("P1 | b | 2 | <= 4 x guard | hard | holds"),
            line("P9 | c | 9 | <= 3 x volo | report | misses"),
            line("P3 | d | 1 | >= 1.8 | hard | skipped: why"),
        ]);
        assert_eq!(svg.matches("<rect").count(), 2);
        assert!(svg.contains("2 (&lt;= 4 x guard)") && !svg.contains("1 (&lt;= 4"), "{svg}");
        assert!(svg.contains("class=\"miss\"") && svg.contains("prefers-color-scheme: dark"));
        assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
    }
}
