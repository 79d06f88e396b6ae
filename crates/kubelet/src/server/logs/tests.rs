use super::*;

fn options(text: &str) -> Result<Options, u16> {
    let now = Timestamp::from_second(1000).unwrap();
    Options::parse(text, now).map_err(|(status, _)| status.as_u16())
}

#[test]
fn queries() {
    let o = options("follow=true&tailLines=3&sinceSeconds=10&timestamps=1&limitBytes=5").unwrap();
    assert!(o.follow && o.timestamps);
    assert_eq!((o.tail, o.limit), (Some(3), Some(5)));
    assert_eq!(o.since.unwrap().as_second(), 990);
    assert_eq!(options("tail=all").unwrap(), Options::default());
    assert_eq!(options("tailLines=x"), Err(400));
    assert_eq!(options("tailLines=-1"), Err(422));
    assert_eq!(options("limitBytes=0"), Err(422));
    assert_eq!(options("stream=Stdout"), Err(400));
}

#[test]
fn the_last_lines_begin_somewhere() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    std::fs::write(&path, "a\nbb\nccc\n").unwrap();
    let mut file = File::open(&path).unwrap();
    let got: Vec<u64> = [0, 1, 2, 3, 9]
        .into_iter()
        .map(|n| tail_offset(&mut file, n).unwrap())
        .collect();
    assert_eq!(got, [9, 5, 2, 0, 0]);
}

#[test]
fn lines_are_cut_prefixed_and_limited() {
    let run = |options: Options, lines: &[&str]| {
        let mut f = Follower {
            path: PathBuf::new(),
            options,
            out: mpsc::channel(1).0,
            written: 0,
        };
        let mut out = Vec::new();
        lines.iter().for_each(|l| f.format(l.as_bytes(), &mut out));
        String::from_utf8(out).unwrap()
    };
    let lines = [
        "2026-01-01T00:00:00Z stdout P a b\n",
        "2026-01-01T00:00:05Z stderr F \n",
    ];
    assert_eq!(run(Options::default(), &lines), "a b\n");
    let since = Some("2026-01-01T00:00:01Z".parse().unwrap());
    assert_eq!(
        run(
            Options {
                since,
                ..Options::default()
            },
            &lines
        ),
        "\n"
    );
    let limit = Some(2);
    assert_eq!(
        run(
            Options {
                limit,
                ..Options::default()
            },
            &lines
        ),
        "a "
    );
    let timestamps = true;
    assert!(
        run(
            Options {
                timestamps,
                ..Options::default()
            },
            &lines
        )
        .starts_with("2026-01-01T00:00:00Z a b")
    );
}
