//! The labs that run, each a locked file in the user's runtime directory. The lock is held by the
//! lab's own processes, so that a file without one is of a lab that is gone.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{
    AtFlags, Dir, FlockOperation, Mode, OFlags, fchmod, flock, fstat, mkdir, open, openat, statat,
    unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Of a lab's file, behind the lab's name; its socket's is `.sock`.
const ENTRY: &str = ".json";
const SOCKET: &str = ".sock";
/// A look at an entry holds its lock for a moment; a lab holds it on.
const ATTEMPTS: u32 = 10;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(10);

/// The folder of the user's labs.
#[derive(Debug)]
pub struct Registry {
    path: PathBuf,
    folder: OwnedFd,
}

/// What the file of a lab says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    pub name: String,
    /// The process that ends the lab when it is asked to, by `SIGTERM`.
    pub pid: i32,
    /// Init of the lab's namespaces; none until they are there.
    pub init: Option<i32>,
    /// What has a namespace of its own, in the order of the file.
    pub nodes: Vec<String>,
}

/// A lab that runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunningLab {
    pub record: Record,
    /// Seconds since 1970, UTC.
    pub since: i64,
}

/// The place of a lab of this process.
#[derive(Debug)]
pub struct Entry {
    file: File,
}

#[derive(Debug, Error)]
pub enum RegistryError {
    #[error("{path}: {source}")]
    Folder { path: PathBuf, source: io::Error },
    #[error(
        "{path} is not this user's alone; remove it, or name another folder in XDG_RUNTIME_DIR"
    )]
    NotOurs { path: PathBuf },
    #[error(
        "lab {name} runs already (process {pid}): `msee lab down {name}` ends it, another `name:` \
         in the file runs beside it"
    )]
    Runs { name: String, pid: i32 },
    #[error("lab {name} is about to start or to end; try again")]
    Busy { name: String },
}

impl Registry {
    /// The user's, made if it is not there.
    pub fn open() -> Result<Self, RegistryError> {
        let path = runtime_folder();
        Self::at(&path)
    }

    fn at(path: &Path) -> Result<Self, RegistryError> {
        let failed =
            |source: Errno| RegistryError::Folder { path: path.to_owned(), source: source.into() };
        match mkdir(path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(error)),
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = open(path, flags, Mode::empty()).map_err(failed)?;
        let stat = fstat(&folder).map_err(failed)?;
        if stat.st_uid != geteuid().as_raw() {
            return Err(RegistryError::NotOurs { path: path.to_owned() });
        }
        // What the user's umask made of the mode above, or somebody else later.
        fchmod(&folder, Mode::RWXU).map_err(failed)?;
        Ok(Self { path: path.to_owned(), folder })
    }

    /// The folder, also where mounts hide its path. A lab's socket is in it.
    pub fn folder(&self) -> &OwnedFd {
        &self.folder
    }

    /// Takes the place of a lab of that name.
    pub fn reserve(&self, name: &str) -> Result<Entry, RegistryError> {
        let failed = |source: io::Error| RegistryError::Folder {
            path: self.path.join(file_name(name)),
            source,
        };
        for _ in 0..ATTEMPTS {
            let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let file = openat(&self.folder, file_name(name), flags, Mode::RUSR | Mode::WUSR);
            let file = File::from(file.map_err(|error| failed(error.into()))?);
            if is_locked_by_us(&file).map_err(failed)? && self.is_at(&file, name) {
                file.set_len(0).map_err(failed)?;
                return Ok(Entry { file });
            }
            sleep(BETWEEN_ATTEMPTS);
        }
        let name = name.to_owned();
        Err(match self.labs().iter().find(|lab| lab.record.name == name) {
            Some(lab) => RegistryError::Runs { name, pid: lab.record.pid },
            None => RegistryError::Busy { name },
        })
    }

    /// Every lab that runs, by name. Files of those that are gone are removed.
    pub fn labs(&self) -> Vec<RunningLab> {
        let Ok(files) = Dir::read_from(&self.folder) else { return Vec::new() };
        let names = files.filter_map(|file| {
            let name = file.ok()?.file_name().to_str().ok()?.strip_suffix(ENTRY)?.to_owned();
            Some(name)
        });
        let mut labs: Vec<_> = names.filter_map(|name| self.lab(&name)).collect();
        labs.sort_by(|a, b| a.record.name.cmp(&b.record.name));
        labs
    }

    /// The lab of that name, if it runs and is more than a name.
    pub fn lab(&self, name: &str) -> Option<RunningLab> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = openat(&self.folder, file_name(name), flags, Mode::empty()).ok()?;
        let mut file = File::from(file);
        if is_locked_by_us(&file).ok()? {
            if self.is_at(&file, name) {
                self.remove(name);
            }
            return None;
        }
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        let since = file.metadata().ok()?.mtime();
        let record = serde_json::Deserializer::from_str(&text).into_iter().next()?.ok()?;
        Some(RunningLab { record, since })
    }

    /// Takes a lab's files away, its socket among them.
    pub fn remove(&self, name: &str) {
        // What is not there need not go.
        let _ = unlinkat(&self.folder, format!("{name}{SOCKET}"), AtFlags::empty());
        let _ = unlinkat(&self.folder, file_name(name), AtFlags::empty());
    }

    /// Whether the lab's file is this one, and not one that was removed or another in its place.
    fn is_at(&self, file: &File, name: &str) -> bool {
        let there = statat(&self.folder, file_name(name), AtFlags::SYMLINK_NOFOLLOW);
        let here = fstat(file);
        matches!((there, here), (Ok(a), Ok(b)) if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
    }
}

impl Entry {
    /// Says what there is to say of the lab. A reader in between sees the record whole, maybe with
    /// the end of a longer one behind it.
    pub fn write(&self, record: &Record) -> io::Result<()> {
        let text = serde_json::to_string(record).expect("a record is plain data");
        self.file.write_all_at(text.as_bytes(), 0)?;
        self.file.set_len(text.len() as u64)
    }
}

fn file_name(lab: &str) -> String {
    format!("{lab}{ENTRY}")
}

/// Takes the lock if nobody has it. It goes with the last copy of the descriptor.
fn is_locked_by_us(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The first of the usual places that is this user's own.
fn runtime_folder() -> PathBuf {
    let uid = geteuid().as_raw();
    let session = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let login = PathBuf::from(format!("/run/user/{uid}"));
    let ours = |path: &PathBuf| {
        path.is_absolute()
            && path.metadata().is_ok_and(|found| found.is_dir() && found.uid() == uid)
    };
    match session.into_iter().chain([login]).find(ours) {
        Some(folder) => folder.join("msee"),
        None => PathBuf::from(format!("/tmp/msee-{uid}")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A folder that is gone with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(test: &str) -> Self {
            let path = format!("msee-registry-{}-{test}", std::process::id());
            Self(std::env::temp_dir().join(path))
        }

        fn names(&self) -> Vec<String> {
            let files = fs::read_dir(&self.0).expect("the registry is there");
            let name = |file: fs::DirEntry| file.file_name().to_string_lossy().into_owned();
            files.map(|file| name(file.expect("it can be read"))).collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn record(name: &str, init: Option<i32>) -> Record {
        Record { name: name.to_owned(), pid: 4711, init, nodes: vec!["dc1.erp".to_owned()] }
    }

    #[test]
    fn a_name_is_taken_while_its_lab_runs_and_free_when_it_is_gone() {
        let folder = Folder::new("taken");
        let registry = Registry::at(&folder.0).unwrap();
        let entry = registry.reserve("contoso").unwrap();
        assert!(matches!(registry.reserve("contoso"), Err(RegistryError::Busy { .. })));
        entry.write(&record("contoso", None)).unwrap();
        let refused = registry.reserve("contoso").unwrap_err();
        assert!(matches!(refused, RegistryError::Runs { pid: 4711, .. }), "{refused}");
        let other = registry.reserve("fabrikam").unwrap();
        other.write(&record("fabrikam", Some(4712))).unwrap();
        let labs = registry.labs();
        let names: Vec<_> = labs.iter().map(|lab| lab.record.name.as_str()).collect();
        assert_eq!(names, ["contoso", "fabrikam"]);
        drop(entry);
        assert_eq!(registry.labs().len(), 1);
        assert_eq!(folder.names(), ["fabrikam.json"]);
        registry.reserve("contoso").unwrap();
    }

    #[test]
    fn a_record_can_become_shorter() {
        let folder = Folder::new("shorter");
        let registry = Registry::at(&folder.0).unwrap();
        let entry = registry.reserve("contoso").unwrap();
        for init in [None, Some(7)] {
            entry.write(&record("contoso", init)).unwrap();
            assert_eq!(registry.lab("contoso").unwrap().record, record("contoso", init));
        }
    }

    #[test]
    fn what_a_lab_leaves_goes_with_its_name() {
        let folder = Folder::new("socket");
        let registry = Registry::at(&folder.0).unwrap();
        let _entry = registry.reserve("contoso").unwrap();
        fs::write(folder.0.join("contoso.sock"), "").unwrap();
        registry.remove("contoso");
        assert_eq!(folder.names(), [""; 0]);
    }

    #[test]
    fn the_folder_is_the_users_alone_and_never_a_link_to_elsewhere() {
        let folder = Folder::new("mode");
        Registry::at(&folder.0).unwrap();
        assert_eq!(fs::metadata(&folder.0).unwrap().mode() & 0o777, 0o700);
        let link = Folder::new("link");
        std::os::unix::fs::symlink(&folder.0, &link.0).unwrap();
        let refused = Registry::at(&link.0).unwrap_err();
        fs::remove_file(&link.0).unwrap();
        assert!(matches!(refused, RegistryError::Folder { .. }), "{refused}");
    }
}
