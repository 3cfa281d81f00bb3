//! Servers written in Java: a class or two of ours on top of what Maven fetches.
//!
//! What Spring Boot packs into one file is laid out again as a jar beside its libraries: it starts faster so, and only
//! so can the Java machine keep the classes it has loaded ("class data sharing"), which halves a start once more.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cache;
use super::network::Apart;
use super::programs::{self, Java};
use super::recipe::Application;
use crate::failure::{Failure, Result};
use crate::process::{capture, run};
use crate::version::Version;

/// What the testkit looks for beside the jar.
const ARCHIVE: &str = "app.jsa";

/// Packages the server, and makes its class data where that works.
pub(super) fn build(root: &Path, application: &Application, source: &Path, into: &Path) -> Result<()> {
    let java = programs::java()?;
    // Not in the source: Maven writes beside it.
    let work = into.join("work");
    copy(source, &work)?;
    let mut maven = Command::new(&java.maven);
    maven.current_dir(&work).env("JAVA_HOME", &java.home).args([
        "-B",
        "-ntp",
        "-q",
        "-Dstyle.color=never",
        "package",
    ]);
    run(&mut maven)
        .map_err(|failure| Failure::new(format!("{failure} (is Maven's repository reachable?)")))?;
    lay_out(&java, &work.join("target").join(application.jar), &into.join(application.jar), into)?;
    for file in
        files(source)?.into_iter().filter(|file| file.extension().is_some_and(|name| name == "properties"))
    {
        // Only those that stand beside the pom: settings to start with, not to pack.
        if file.components().count() == 1 {
            duplicate(&source.join(&file), &into.join(&file))?;
        }
    }
    fs::remove_dir_all(&work).map_err(|error| Failure::file("remove", &work, &error))?;
    if let Err(failure) = rehearse(root, &java, application, into) {
        // It starts without, only later.
        println!("no class data for {}: {failure}", application.jar);
        let _ = fs::remove_file(into.join(ARCHIVE));
    }
    Ok(())
}

/// Turns Boot's one file into a jar with the application's own classes and a directory with the libraries.
fn lay_out(java: &Java, packed: &Path, jar: &Path, into: &Path) -> Result<()> {
    let work = into.join("unpacked");
    fs::create_dir_all(&work).map_err(|error| Failure::file("create", &work, &error))?;
    run(java.tool("jar").current_dir(&work).arg("xf").arg(packed))?;
    let inside = work.join("BOOT-INF");
    let (libraries, kept) = (inside.join("lib"), into.join("lib"));
    fs::rename(&libraries, &kept).map_err(|error| Failure::file("move", &libraries, &error))?;
    let manifest =
        manifest(&read(&work.join("META-INF/MANIFEST.MF"))?, &read(&inside.join("classpath.idx"))?)?;
    let file = work.join("manifest");
    fs::write(&file, manifest).map_err(|error| Failure::file("write", &file, &error))?;
    run(java.tool("jar").arg("cfm").arg(jar).arg(&file).arg("-C").arg(inside.join("classes")).arg("."))?;
    fs::remove_dir_all(&work).map_err(|error| Failure::file("remove", &work, &error))
}

/// The class path in Boot's order, one library a line: lines of a manifest must not be long.
fn manifest(of_boot: &str, class_path: &str) -> Result<String> {
    let main = of_boot
        .lines()
        .find_map(|line| line.strip_prefix("Start-Class: "))
        .ok_or_else(|| Failure::new("the packed jar names no class to start"))?;
    let mut text = format!("Main-Class: {}\nClass-Path: \n", main.trim());
    for library in class_path.lines().filter_map(|line| line.split("BOOT-INF/").nth(1)) {
        // A space continues the line, a second one parts it from the library before.
        text.push_str(&format!("  {}\n", library.trim_end_matches('"')));
    }
    Ok(text)
}

/// Starts the server once and lets the machine write down the classes it has loaded.
fn rehearse(root: &Path, java: &Java, application: &Application, into: &Path) -> Result<()> {
    let scratch = env::temp_dir().join(format!("service-registry-rehearsal-{}", std::process::id()));
    fs::create_dir_all(&scratch).map_err(|error| Failure::file("create", &scratch, &error))?;
    // Whatever it listens on, nobody else sees it, and nobody else has taken it.
    let mut command = Apart::find(root)?.command(java.program("java"));
    command
        // The class path has to be the one the server will be started with, to the letter.
        .current_dir(into)
        .args([
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-Xmx256m",
            "-Xlog:cds=off",
            "-Xlog:cds+dynamic=off",
        ])
        .arg(format!("-XX:ArchiveClassesAtExit={ARCHIVE}"))
        .arg(format!("-Duser.home={}", scratch.display()))
        .arg(format!("-Djava.io.tmpdir={}", scratch.display()))
        .arg("-Dregistry.test.exit=true")
        .args(application.rehearsal.iter().map(|word| word.replace("{home}", &scratch.display().to_string())))
        .args(["-jar", application.jar])
        .args(application.arguments);
    println!("starting it once, for its class data");
    let rehearsed = capture(&mut command);
    // Left-overs in the temporary directory do no harm.
    let _ = fs::remove_dir_all(&scratch);
    rehearsed?;
    if into.join(ARCHIVE).is_file() { Ok(()) } else { Err(Failure::new("the machine wrote none")) }
}

/// Everything in the source's directory, names included.
pub(super) fn key(source: &Path) -> Result<u64> {
    let mut parts = Vec::new();
    for file in files(source)? {
        let path = source.join(&file);
        let content = fs::read(&path).map_err(|error| Failure::file("read", &path, &error))?;
        parts.push(file.to_string_lossy().replace('\\', "/").into_bytes());
        parts.push(content);
    }
    Ok(cache::key(parts.iter().map(Vec::as_slice)))
}

/// The version that the pom asks for.
pub(super) fn locked(source: &Path, property: &str) -> Result<Version> {
    stated(&read(&source.join("pom.xml"))?, property)
}

fn stated(pom: &str, property: &str) -> Result<Version> {
    pom.split_once(&format!("<{property}>"))
        .and_then(|(_, rest)| rest.split_once('<'))
        .and_then(|(version, _)| Version::find(version))
        .ok_or_else(|| Failure::new(format!("pom.xml has no property {property}")))
}

/// The version of a library that is really there.
pub(super) fn version_in(home: &Path, artifact: &str) -> Result<Version> {
    let libraries = home.join("lib");
    let prefix = format!("{artifact}-");
    let found = fs::read_dir(&libraries).map_err(|error| Failure::file("read", &libraries, &error))?;
    found
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let version = name.strip_prefix(&prefix)?.strip_suffix(".jar")?;
            version.starts_with(|first: char| first.is_ascii_digit()).then(|| Version::find(version))?
        })
        .next()
        .ok_or_else(|| Failure::new(format!("there is no {artifact} in {}", libraries.display())))
}

/// All files below `directory`, as paths from there, in a fixed order.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(next) = pending.pop() {
        let path = directory.join(&next);
        for entry in fs::read_dir(&path).map_err(|error| Failure::file("read", &path, &error))?.flatten() {
            let name = next.join(entry.file_name());
            if entry.path().is_dir() { pending.push(name) } else { found.push(name) }
        }
    }
    found.sort();
    Ok(found)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    for file in files(from)? {
        let target = to.join(&file);
        let parent = target.parent().unwrap_or(to);
        fs::create_dir_all(parent).map_err(|error| Failure::file("create", parent, &error))?;
        duplicate(&from.join(&file), &target)?;
    }
    Ok(())
}

fn duplicate(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map(drop).map_err(|error| Failure::file("copy", from, &error))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))
}

#[cfg(test)]
mod tests {
    use super::{manifest, stated};
    use crate::version::Version;

    #[test]
    fn the_version_is_read_from_the_property() {
        let pom = "<properties><nacos.version>3.1.0-bugfix</nacos.version></properties>";
        assert_eq!(stated(pom, "nacos.version").expect("it is there"), Version::new(3, 1, 0));
        assert!(stated(pom, "other.version").is_err());
    }

    #[test]
    fn the_class_path_keeps_its_order_and_its_lines_are_short() {
        let boot = "Manifest-Version: 1.0\r\nMain-Class: loader\r\nStart-Class: registry.test.Server\r\n";
        let index = "- \"BOOT-INF/lib/b-1.jar\"\n- \"BOOT-INF/lib/a-2.jar\"\n";
        let expected = "Main-Class: registry.test.Server\nClass-Path: \n  lib/b-1.jar\n  lib/a-2.jar\n";
        assert_eq!(manifest(boot, index).expect("it is complete"), expected);
        assert!(manifest("Main-Class: loader\n", index).is_err());
    }
}
