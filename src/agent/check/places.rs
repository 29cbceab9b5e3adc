//! The files that a path with placeholders could mean: every SIM's, as far as they are there.

use std::path::{Path, PathBuf};

use crate::identity::{NameTemplate, Numbers};

/// Most entries of directories that are looked at.
const ENTRIES_MAX: usize = 100_000;
/// Most files that are answered.
const FOUND_MAX: usize = 2_000;

/// A file, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) of: Numbers,
}

/// Every file that the template could mean for somebody with these numbers, by name. A placeholder may stand in any part of the path.
pub(super) fn find(template: &NameTemplate, known: &Numbers) -> Vec<Place> {
    let source = template.source();
    let start = if source.starts_with('/') { "/" } else { "" };
    let mut found = vec![Place {
        path: PathBuf::from(start),
        of: known.clone(),
    }];
    let mut entries = 0;
    for part in source.split('/').filter(|p| !p.is_empty()) {
        // The whole template was read already, so its parts can be.
        let Ok(part) = part.parse::<NameTemplate>() else {
            return Vec::new();
        };
        found = found
            .into_iter()
            .flat_map(|at| step(&at, &part, &mut entries))
            .take(FOUND_MAX)
            .collect();
    }
    found.retain(|f| f.path.is_file());
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn step(at: &Place, part: &NameTemplate, entries: &mut usize) -> Vec<Place> {
    if let Ok(name) = part.fill_known(&at.of) {
        return vec![Place {
            path: at.path.join(name),
            of: at.of.clone(),
        }];
    }
    let directory = if at.path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        &at.path
    };
    let mut out = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        *entries += 1;
        if *entries > ENTRIES_MAX || out.len() >= FOUND_MAX {
            break;
        }
        let name = entry.file_name();
        if let Some(of) = name.to_str().and_then(|name| part.read(name, &at.of)) {
            out.push(Place {
                path: at.path.join(&name),
                of,
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sims_files_are_found_wherever_the_placeholders_stand() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path();
        for (sim, imei) in [
            ("295012345678901", "123456789011111"),
            ("295012345678902", "123456789022222"),
        ] {
            std::fs::create_dir(d.join(sim)).unwrap();
            for file in [
                format!("{sim}/c.pem"),
                format!("c-{sim}.pem"),
                format!("c-{sim}-{imei}.pem"),
                format!("c-{sim}.pem.old"),
            ] {
                std::fs::write(d.join(file), "").unwrap();
            }
        }
        std::fs::write(d.join("c-x.pem"), "").unwrap();
        let names = |t: &str, known: &Numbers| {
            let template = format!("{}/{t}", d.display()).parse().unwrap();
            let found = find(&template, known).into_iter();
            found
                .map(|p| p.path.strip_prefix(d).unwrap().display().to_string())
                .collect::<Vec<_>>()
        };
        let all = Numbers::default();
        assert_eq!(
            names("c-#{imsi}.pem", &all),
            ["c-295012345678901.pem", "c-295012345678902.pem"]
        );
        assert_eq!(
            names("#{imsi}/c.pem", &all),
            ["295012345678901/c.pem", "295012345678902/c.pem"]
        );
        let one = Numbers {
            imsi: Some("295012345678902".parse().unwrap()),
            ..all.clone()
        };
        assert_eq!(
            names("c-#{imsi}-#{imei}.pem", &one),
            ["c-295012345678902-123456789022222.pem"]
        );
        assert_eq!(names("c-x.pem", &all), ["c-x.pem"]);
        assert!(names("no/such/#{imsi}.pem", &all).is_empty() && names("c-#{iccid}.pem", &all).is_empty());
    }
}
