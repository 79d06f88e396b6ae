use super::*;

fn headers(all: &[(&str, &str)]) -> HeaderMap {
    let mut out = HeaderMap::new();
    for (name, value) in all {
        out.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            value.parse().unwrap(),
        );
    }
    out
}

#[test]
fn headers_name_a_user_or_are_refused() {
    let all = headers(&[
        ("impersonate-user", "jane"),
        ("impersonate-uid", "u"),
        ("impersonate-group", "a"),
        ("impersonate-group", "b"),
        ("impersonate-extra-example.org%2fx", "1"),
        ("impersonate-extra-example.org%2fx", "2"),
    ]);
    let user = wanted(&all).unwrap().unwrap();
    assert_eq!((user.name.as_str(), user.uid.as_str()), ("jane", "u"));
    assert_eq!(user.groups, ["a", "b"]);
    assert_eq!(user.extra["example.org/x"], ["1", "2"]);
    assert_eq!(wanted(&headers(&[])).unwrap(), None);
    let e = wanted(&headers(&[("impersonate-group", "system:masters")])).unwrap_err();
    assert_eq!(e.code, 400);
    assert_eq!(
        e.message,
        "requested &user.DefaultInfo{Name:\"\", UID:\"\", Groups:[]string{\"system:masters\"}, Extra:map[string][]string(nil)} without impersonating a user name"
    );
}

#[test]
fn verbs_name_their_mode() {
    for (verb, mode) in [
        ("", "legacy"),
        ("impersonate", "legacy"),
        ("impersonate:user-info", "user-info"),
        ("impersonate-on:arbitrary-node:list", "arbitrary-node"),
        ("impersonate:serviceaccount", "serviceaccount"),
        ("impersonate-on:x:get", "unknown"),
    ] {
        assert_eq!(modes::of_verb(verb), mode, "{verb}");
    }
}
