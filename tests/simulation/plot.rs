//! The load of a run as a drawing: each day of it, and its first weeks hour by hour.

use std::fmt::Write as _;

use super::fleet::Outcome;
use super::weather::{DAY, HOUR, RECOVERY, Weather};

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 170.0;
const LEFT: f64 = 20.0;
/// Days that are drawn hour by hour.
const CLOSE: usize = 45;

/// One picture among two.
struct Panel<'a> {
    title: String,
    top: f64,
    loads: &'a [f64],
    /// Seconds for each of them.
    step: i64,
    mean: f64,
}

/// An SVG of at most some hundred kilobytes.
pub(crate) fn draw(outcome: &Outcome, weather: &Weather) -> String {
    let hours: Vec<f64> = outcome.load.iter().skip(4).map(|load| f64::from(*load)).collect();
    let mean = hours.iter().sum::<f64>() / hours.len() as f64;
    // Hours in which an outage shows do not count for the day; one with no other is empty.
    let quiet = |(hour, load): (usize, &u32)| match weather.shows_at(i64::try_from(hour).unwrap() * HOUR) {
        true => 0.0,
        false => f64::from(*load),
    };
    let quiet: Vec<f64> = outcome.load.iter().enumerate().map(quiet).collect();
    let days: Vec<f64> = quiet[24..].chunks_exact(24).map(|day| day.iter().copied().fold(0.0, f64::max)).collect();
    let first: Vec<f64> = outcome.load.iter().take(CLOSE * 24).map(|load| f64::from(*load)).collect();
    let close = Panel {
        title: format!("Requests for certificates in each hour of the first {CLOSE} days; outages grey"),
        top: 30.0,
        loads: &first,
        step: HOUR,
        mean,
    };
    let all = Panel {
        title: format!("Busiest hour without outage on each of {} days", days.len()),
        top: 80.0 + HEIGHT,
        loads: &days,
        step: DAY,
        mean,
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        LEFT + WIDTH + 100.0,
        130.0 + 2.0 * HEIGHT
    );
    close.draw(&mut svg, weather, 6.0);
    all.draw(&mut svg, &Weather::none(), 4.0);
    svg + "</svg>\n"
}

impl Panel<'_> {
    /// Up to so many times the mean.
    fn draw(&self, svg: &mut String, weather: &Weather, most: f64) {
        let (top, bottom) = (self.top, self.top + HEIGHT);
        let x = |step: f64| LEFT + WIDTH * step / self.loads.len() as f64;
        let y = |load: f64| bottom - HEIGHT * (load / (most * self.mean)).min(1.0);
        writeln!(svg, "<text x=\"{LEFT}\" y=\"{:.0}\">{}</text>", top - 8.0, self.title).unwrap();
        for spell in weather.outages().iter().filter(|spell| spell.from < self.step * self.loads.len() as i64) {
            let [from, to, over] =
                [spell.from, spell.to, spell.to + RECOVERY].map(|at| x(at as f64 / self.step as f64));
            for (from, to, colour) in [(from, to, "#bbb"), (to, over, "#e4e4e4")] {
                let width = to - from;
                writeln!(
                    svg,
                    "<rect x=\"{from:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{HEIGHT}\" fill=\"{colour}\"/>"
                )
                .unwrap();
            }
        }
        let points = self.loads.iter().enumerate().fold(String::new(), |mut points, (step, load)| {
            let _ = write!(points, "{:.1},{:.0} ", x(step as f64), y(*load));
            points
        });
        writeln!(svg, "<polyline points=\"{}\" fill=\"none\" stroke=\"#06c\"/>", points.trim_end()).unwrap();
        for (times, what, colour) in [(1.0, "mean", "#090"), (3.0, "3 × mean", "#c00")] {
            let (at, right) = (y(times * self.mean), LEFT + WIDTH);
            let load = times * self.mean;
            writeln!(
                svg,
                "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.0}\" y2=\"{at:.0}\" stroke=\"{colour}\" \
                 stroke-dasharray=\"4\"/><text x=\"{:.0}\" y=\"{:.0}\" fill=\"{colour}\">{what}: {load:.0}</text>",
                right + 6.0,
                at + 4.0
            )
            .unwrap();
        }
        for fifth in 0..=5 {
            let step = self.loads.len() * fifth / 5;
            let day = step as i64 * self.step / DAY;
            writeln!(
                svg,
                "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">day {day}</text>",
                x(step as f64),
                bottom + 16.0
            )
            .unwrap();
        }
    }
}
