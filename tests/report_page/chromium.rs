//! A page as headless Chromium sees it. Chromium makes requests of its own; those of the page have
//! its origin as their initiator.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// Widths in which a page is looked at. Chromium's own window cannot be as narrow as the first, a
/// frame can.
pub const WIDTHS: [u32; 4] = [360, 400, 800, 1400];

/// What was seen.
#[derive(Debug)]
pub struct Seen {
    /// By the page over the network, and elements that load something from anywhere.
    pub requests: Vec<String>,
    /// Messages in the console, of any level.
    pub console: Vec<String>,
    /// A line for each width at which the page is wider than its window.
    pub too_wide: Vec<String>,
    /// Elements with text that is cut, by width.
    pub cut: Vec<String>,
}

impl Seen {
    pub fn is_clean(&self) -> bool {
        [&self.requests, &self.console, &self.too_wide, &self.cut].iter().all(|all| all.is_empty())
    }
}

/// Opens the page in each width.
pub fn look(name: &str, page: &str) -> Seen {
    let folder = Folder::new(name);
    fs::write(folder.0.join("report.html"), page).unwrap();
    let frames: String = WIDTHS
        .iter()
        .map(|width| {
            format!("<iframe src=\"report.html\" width=\"{width}\" height=\"900\"></iframe>")
        })
        .collect();
    // `scrollWidth` of what scrolls in its own box is not the page's.
    let script = r#"
        addEventListener("load", () => {
          const seen = [...document.querySelectorAll("iframe")].map(frame => {
            const view = frame.contentWindow, root = frame.contentDocument.documentElement;
            const cut = [...root.querySelectorAll("main *")].filter(e => e.tagName !== "svg" && !e.closest("svg")
              && e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0 && getComputedStyle(e).display !== "inline"
              && !["auto", "scroll"].includes(getComputedStyle(e).overflowX));
            return { width: +frame.width, content: root.scrollWidth, window: view.innerWidth,
              cut: cut.slice(0, 5).map(e => e.outerHTML.slice(0, 120)),
              loads: [...root.querySelectorAll("[src], [href], link, script, object, embed")]
                .map(e => e.outerHTML.slice(0, 120)) };
          });
          document.body.innerHTML = "<pre></pre>";
          document.body.firstChild.textContent = JSON.stringify(seen);
        });"#;
    let wrapper =
        format!("<!DOCTYPE html><html><body>{frames}<script>{script}</script></body></html>");
    fs::write(folder.0.join("frames.html"), wrapper).unwrap();
    let log = folder.0.join("net.json");
    let output = run(
        &folder,
        &[
            "--allow-file-access-from-files",
            "--enable-logging=stderr",
            "--v=0",
            "--virtual-time-budget=10000",
            &format!("--log-net-log={}", log.display()),
            "--dump-dom",
            &format!("file://{}", folder.0.join("frames.html").display()),
        ],
    );
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    let seen = dom.split_once("<pre>").and_then(|(_, rest)| rest.split_once("</pre>"));
    let seen = seen.unwrap_or_else(|| panic!("the frames did not load: {dom}")).0;
    let seen = seen.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    let frames: Value = serde_json::from_str(&seen).unwrap();
    let frames = frames.as_array().unwrap();
    assert_eq!(frames.len(), WIDTHS.len());
    let of = |frame: &Value, list: &str| -> Vec<String> {
        let texts = frame[list].as_array().unwrap().iter();
        texts.map(|text| format!("at {}: {}", frame["width"], text.as_str().unwrap())).collect()
    };
    let mut requests: Vec<String> = frames.iter().flat_map(|frame| of(frame, "loads")).collect();
    requests.extend(logged(&log));
    let stderr = String::from_utf8_lossy(&output.stderr);
    Seen {
        requests,
        console: stderr
            .lines()
            .filter(|line| line.contains(":CONSOLE:"))
            .map(str::to_owned)
            .collect(),
        too_wide: frames
            .iter()
            .filter(|frame| frame["content"].as_u64() > frame["window"].as_u64())
            .map(|frame| format!("{} in a window of {}", frame["content"], frame["window"]))
            .collect(),
        cut: frames.iter().flat_map(|frame| of(frame, "cut")).collect(),
    }
}

/// Pages of the page on paper.
pub fn print(name: &str, page: &str) -> usize {
    let folder = Folder::new(name);
    fs::write(folder.0.join("report.html"), page).unwrap();
    let pdf = folder.0.join("report.pdf");
    run(
        &folder,
        &[
            "--no-pdf-header-footer",
            &format!("--print-to-pdf={}", pdf.display()),
            &format!("file://{}", folder.0.join("report.html").display()),
        ],
    );
    let pdf = fs::read(&pdf).expect("Chromium wrote no PDF");
    let pdf = String::from_utf8_lossy(&pdf);
    pdf.matches("/Type /Page\n").count()
}

/// Requests over the network that a page asked for.
fn logged(log: &Path) -> Vec<String> {
    let log: Value = serde_json::from_str(&fs::read_to_string(log).unwrap()).unwrap();
    let events = log["events"].as_array().unwrap();
    let of_page = events.iter().filter_map(|event| {
        let params = &event["params"];
        let asked = params["initiator"].as_str().is_some_and(|origin| origin != "not an origin");
        params["url"].as_str().filter(|_| asked)
    });
    let mut urls: Vec<String> = of_page.map(str::to_owned).collect();
    urls.sort_unstable();
    urls.dedup();
    urls
}

fn run(folder: &Folder, arguments: &[&str]) -> Output {
    let output = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ])
        .arg(format!("--user-data-dir={}", folder.0.join("profile").display()))
        .args(arguments)
        .output()
        .expect("chromium is in PATH");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// A fresh folder, removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("msee-page-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
