//! A plot as SVG: use of the limit over time, in per cent, and where requests were refused.

use std::fmt::Write;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 340.0;
/// The drawing's edges: left, right, top, bottom.
const AREA: (f64, f64, f64, f64) = (60.0, 885.0, 62.0, 290.0);
/// The highest use shown, in per cent.
const TOP: f64 = 120.0;
const RED: &str = "#c51b1b";

/// What is drawn.
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) seconds: f64,
    pub(crate) lines: Vec<Line>,
    /// When a request was refused.
    pub(crate) refused: Vec<f64>,
}

/// One line: seconds, per cent.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) colour: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Plot {
    pub(crate) fn svg(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\" fill=\"#333\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
        );
        text(&mut svg, (AREA.0, 22.0), "start", 15, &self.title);
        self.axes(&mut svg);
        self.legend(&mut svg);
        for line in &self.lines {
            let points: Vec<String> =
                line.points.iter().map(|(at, percent)| format!("{:.1},{:.1}", self.x(*at), y(*percent))).collect();
            let _ = writeln!(
                svg,
                "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.3\" points=\"{}\"/>",
                line.colour,
                points.join(" ")
            );
        }
        for at in &self.refused {
            let _ = writeln!(svg, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"{RED}\"/>", self.x(*at), y(TOP - 5.0));
        }
        svg + "</svg>\n"
    }

    fn x(&self, seconds: f64) -> f64 {
        AREA.0 + (AREA.1 - AREA.0) * seconds / self.seconds
    }

    fn axes(&self, svg: &mut String) {
        for percent in (0..=TOP as u32).step_by(20) {
            let at = y(f64::from(percent));
            let (colour, dashes) = if percent == 100 { (RED, " stroke-dasharray=\"6 3\"") } else { ("#ddd", "") };
            let _ = writeln!(svg, "<path d=\"M{} {at}H{}\" stroke=\"{colour}\"{dashes}/>", AREA.0, AREA.1);
            text(svg, (AREA.0 - 6.0, at + 4.0), "end", 12, &format!("{percent} %"));
        }
        let step = [5.0, 10.0, 20.0, 30.0, 60.0].into_iter().find(|step| self.seconds / step <= 12.0).unwrap_or(120.0);
        for number in 0..=(self.seconds / step) as u32 {
            let seconds = f64::from(number) * step;
            let _ = writeln!(svg, "<path d=\"M{:.1} {}v5\" stroke=\"#333\"/>", self.x(seconds), AREA.3);
            text(svg, (self.x(seconds), AREA.3 + 18.0), "middle", 12, &format!("{seconds}"));
        }
        let _ = writeln!(svg, "<path d=\"M{} {}V{}H{}\" fill=\"none\" stroke=\"#333\"/>", AREA.0, AREA.2, AREA.3, AREA.1);
        text(svg, (f64::midpoint(AREA.0, AREA.1), AREA.3 + 38.0), "middle", 12, "seconds since the first request");
    }

    fn legend(&self, svg: &mut String) {
        let mut at = AREA.0;
        let refused = ("refused by the gateway".to_owned(), RED);
        let entries = self.lines.iter().map(|line| (format!("{}, % of the limit", line.name), line.colour));
        for (name, colour) in entries.chain((!self.refused.is_empty()).then_some(refused)) {
            let _ = writeln!(svg, "<rect x=\"{at}\" y=\"38\" width=\"12\" height=\"6\" fill=\"{colour}\"/>");
            text(svg, (at + 17.0, 46.0), "start", 12, &name);
            at += 40.0 + 6.6 * name.len() as f64;
        }
    }
}

/// Above the top is drawn at the top.
fn y(percent: f64) -> f64 {
    AREA.3 - (AREA.3 - AREA.2) * percent.min(TOP) / TOP
}

/// None of our texts holds what XML would have to escape but `&` and `<`.
fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, size: u32, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\">{text}</text>");
}
