mod sample;
#[test]
fn write_pages() {
    use msee::drill::report::{html, json, junit};
    for (name, r) in [
        ("fail", sample::report()),
        ("pass", sample::passed()),
        ("invalid", sample::invalid()),
        ("large", sample::large()),
    ] {
        let d = format!("/tmp/page-{name}");
        std::fs::create_dir_all(&d).unwrap();
        let page = html::write(&r);
        println!("{name} {} bytes", page.len());
        std::fs::write(format!("{d}/report.html"), page).unwrap();
        std::fs::write(format!("{d}/report.json"), json::write(&r)).unwrap();
        std::fs::write(format!("{d}/junit.xml"), junit::write(&r)).unwrap();
    }
}
