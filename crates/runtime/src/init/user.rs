//! Users and groups of an image, read from its own files by our own parser (a C library's look-up would
//! load the image's code). passwd(5), group(5); rules of containerd's `WithUser` and `WithAdditionalGIDs`.

use std::io::Read;

use crate::limits::USER_FILE_BYTES_MAX;
use crate::plan::{User, UserPlan};

/// The user of a plan, with the files of the current root.
pub fn resolve(plan: &UserPlan) -> Result<User, String> {
    match plan {
        UserPlan::Known(user) => Ok(user.clone()),
        UserPlan::Lookup {
            user,
            supplemental,
            strict,
        } => {
            let (passwd, group) = (read("/etc/passwd")?, read("/etc/group")?);
            resolve_in(user, supplemental, *strict, &passwd, &group)
        }
    }
}

/// An absent file is an empty one.
fn read(path: &str) -> Result<String, String> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(e) => return Err(format!("open {path}: {e}")),
    };
    let mut bytes = Vec::new();
    let mut limited = file.take(USER_FILE_BYTES_MAX);
    match limited.read_to_end(&mut bytes) {
        Ok(_) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(e) => Err(format!("read {path}: {e}")),
    }
}

fn resolve_in(
    user: &str,
    supplemental: &[u32],
    strict: bool,
    passwd: &str,
    group: &str,
) -> Result<User, String> {
    let (name, group_name) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|g| !g.is_empty())),
        None => (user, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let entry = find_user(name, passwd);
    let uid = match (&entry, name.parse::<u32>()) {
        (Some(entry), _) => entry.uid,
        (None, Ok(uid)) => uid,
        (None, Err(_)) => {
            return Err(format!(
                "unable to find user {name}: no matching entries in passwd file"
            ));
        }
    };
    let gid = match group_name {
        Some(g) => match (find_group(g, group), g.parse::<u32>()) {
            (Some(gid), _) | (None, Ok(gid)) => gid,
            (None, Err(_)) => {
                return Err(format!(
                    "unable to find group {g}: no matching entries in group file"
                ));
            }
        },
        None => entry.as_ref().map_or(0, |e| e.gid),
    };
    let mut groups = vec![gid];
    let mut add = |gid| {
        if !groups.contains(&gid) {
            groups.push(gid);
        }
    };
    if !strict && let Some(entry) = &entry {
        groups_of(&entry.name, group).for_each(&mut add);
    }
    supplemental.iter().copied().for_each(&mut add);
    let home = entry.map(|e| e.home).filter(|h| !h.is_empty());
    Ok(User {
        uid,
        gid,
        groups,
        home: home.unwrap_or_else(|| "/".into()),
    })
}

struct Entry {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

/// By name first, then by number.
fn find_user(wanted: &str, passwd: &str) -> Option<Entry> {
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        Some(Entry {
            name: (*fields.first()?).to_owned(),
            uid: fields.get(2)?.parse().ok()?,
            gid: fields.get(3)?.parse().ok()?,
            home: (*fields.get(5).unwrap_or(&"")).to_owned(),
        })
    };
    let entries = || passwd.lines().filter_map(parse);
    let by_number = || {
        let uid: u32 = wanted.parse().ok()?;
        entries().find(|e| e.uid == uid)
    };
    entries().find(|e| e.name == wanted).or_else(by_number)
}

/// Name, gid and members of each group.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or("")))
    })
}

fn find_group(wanted: &str, group: &str) -> Option<u32> {
    let found = groups(group).find(|(name, _, _)| *name == wanted);
    found.map(|(_, gid, _)| gid)
}

fn groups_of<'a>(user: &'a str, group: &'a str) -> impl Iterator<Item = u32> + 'a {
    let is_member = move |members: &str| members.split(',').any(|m| m.trim() == user);
    groups(group)
        .filter(move |(_, _, members)| is_member(members))
        .map(|(_, gid, _)| gid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001::/srv/web:/bin/sh\nbroken\n";
    const GROUP: &str = "root:x:0:\nweb:x:1001:\ndata:x:50000:web,other\n";

    fn check(user: &str, supplemental: &[u32], strict: bool) -> (u32, u32, Vec<u32>, String) {
        let u = resolve_in(user, supplemental, strict, PASSWD, GROUP).unwrap();
        (u.uid, u.gid, u.groups, u.home)
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        let web = (1000, 1001, vec![1001, 50000], "/srv/web".to_owned());
        assert_eq!(check("web", &[], false), web);
        assert_eq!(check("1000", &[], false), web);
        assert_eq!(check("", &[], false), (0, 0, vec![0], "/root".into()));
        assert_eq!(check("7", &[], false), (7, 0, vec![0], "/".into()));
        assert_eq!(
            check("web:data", &[60000], false),
            (1000, 50000, vec![50000, 60000], "/srv/web".into())
        );
        assert_eq!(check("7:8", &[], false).1, 8);
    }

    #[test]
    fn strict_policy_leaves_out_groups_of_the_image() {
        assert_eq!(check("1000", &[60000], true).2, [1001, 60000]);
        assert_eq!(check("1000", &[60000], false).2, [1001, 50000, 60000]);
    }

    #[test]
    fn unknown_names_are_refused() {
        let e = resolve_in("nobody", &[], false, PASSWD, GROUP).unwrap_err();
        assert_eq!(
            e,
            "unable to find user nobody: no matching entries in passwd file"
        );
        assert!(resolve_in("web:nogroup", &[], false, PASSWD, GROUP).is_err());
    }
}
