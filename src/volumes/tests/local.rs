//! The local driver's volumes, by every verb.

use super::*;

#[tokio::test]
async fn a_volume_lives_through_a_restart_until_it_is_removed() {
    let rig = Rig::new();
    let labels = texts(&[("a", "b")]);
    let request = Create { name: Some("data".to_owned()), labels: labels.clone(), ..Create::default() };
    let created = rig.volumes.create(request).await.unwrap();
    assert_eq!(created.driver, "local");
    assert_eq!(created.mountpoint, Some(rig.root().join("data/_data")));
    assert_eq!((&created.labels, &created.options), (&labels, &None));
    std::fs::write(rig.root().join("data/_data/file"), "x").unwrap();
    assert_eq!(rig.told(), [event("create", "data", "local")]);

    let rig = rig.reopened();
    assert_eq!(rig.volumes.inspect("data").await.unwrap(), created);
    assert_eq!(rig.list().await, Listing { volumes: vec![created], warnings: vec![] });
    rig.volumes.remove("data", false).await.unwrap();
    assert_eq!(rig.told(), [event("destroy", "data", "local")]);
    assert!(!rig.root().join("data").exists());

    let rig = rig.reopened();
    assert_eq!(rig.list().await, Listing::default());
}

#[tokio::test]
async fn a_name_that_exists_is_answered_with_what_there_is() {
    let mut rig = Rig::new();
    let first = rig.create("data", "local").await.unwrap();
    for driver in ["", "local"] {
        let labels = texts(&[("other", "labels")]);
        let request =
            Create { name: Some("data".to_owned()), driver: driver.to_owned(), labels, ..Create::default() };
        assert_eq!(rig.volumes.create(request).await.unwrap(), first);
    }
    assert_eq!(rig.told().len(), 1);

    let error = rig.create("data", "nope").await.unwrap_err();
    let text = r#"create data: error looking up volume plugin nope: plugin "nope" not found"#;
    assert_eq!((chain(&error).as_str(), error.kind()), (text, Kind::NotFound));
    rig.plug("fake:latest", |_| Reply::Hang);
    let error = rig.create("data", "fake").await.unwrap_err();
    let text = "create data: driver 'local' already has volume 'data': volume name must be unique";
    assert_eq!((chain(&error).as_str(), error.kind()), (text, Kind::Conflict));
}

#[tokio::test]
async fn a_volume_without_a_name_gets_one_and_a_label() {
    let rig = Rig::new();
    for name in [None, Some(String::new())] {
        let labels = texts(&[("a", "b")]);
        let volume = rig.volumes.create(Create { name, labels, ..Create::default() }).await.unwrap();
        assert_eq!(volume.name.len(), 64);
        assert_eq!(volume.labels, texts(&[("a", "b"), (ANONYMOUS_LABEL, "")]));
        assert!(volume.is_anonymous());
    }
    assert_eq!(rig.list().await.volumes.len(), 2);
    assert!(!rig.create("named", "").await.unwrap().is_anonymous());
}

#[tokio::test]
async fn what_is_refused_leaves_nothing() {
    let rig = Rig::new();
    let bad_name = rig.create("a/b", "").await.unwrap_err();
    assert!(chain(&bad_name).starts_with(r#"create a/b: "a/b" includes invalid characters for a local"#));
    assert_eq!(bad_name.kind(), Kind::Invalid);
    let request = |options| Create { name: Some("data".to_owned()), options, ..Create::default() };
    let unknown = rig.volumes.create(request(texts(&[("color", "red")]))).await.unwrap_err();
    assert_eq!(chain(&unknown), r#"create data: invalid option: "color""#);
    assert_eq!(unknown.kind(), Kind::Invalid);
    let lone = rig.volumes.create(request(texts(&[("type", "nfs")]))).await.unwrap_err();
    assert_eq!(chain(&lone), r#"create data: missing required option: "device""#);
    assert_eq!(lone.kind(), Kind::Invalid);
    // A record that the state file does not take.
    let huge = texts(&[("a", &"x".repeat(crate::state::VALUE_MAX_BYTES))]);
    let unwritten = Create { name: Some("data".to_owned()), labels: huge, ..Create::default() };
    assert_eq!(rig.volumes.create(unwritten).await.unwrap_err().kind(), Kind::Invalid);
    assert_eq!(rig.list().await, Listing::default());
    assert!(rig.told().is_empty());
    assert!(!rig.root().join("data").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creates_at_once_make_one_volume() {
    let rig = Rig::new();
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let volumes = rig.volumes.clone();
            let request = Create { name: Some("data".to_owned()), ..Create::default() };
            tokio::spawn(async move { volumes.create(request).await.unwrap() })
        })
        .collect();
    let first = rig.volumes.inspect("data").await.ok();
    for task in tasks {
        let volume = task.await.unwrap();
        assert_eq!(volume, rig.volumes.inspect("data").await.unwrap());
    }
    assert!(first.is_none_or(|first| first.name == "data"));
    assert_eq!(rig.told(), [event("create", "data", "local")]);
}

#[tokio::test]
async fn a_create_is_finished_for_a_caller_who_has_gone() {
    let rig = Rig::new();
    let mut heard = rig.events.subscribe();
    {
        let create = rig.create("data", "");
        tokio::pin!(create);
        assert!(futures_util::poll!(&mut create).is_pending());
    }
    assert_eq!(heard.recv().await.unwrap().action, "create");
    assert!(rig.volumes.inspect("data").await.is_ok());
}

#[tokio::test]
async fn a_name_that_is_not_there_is_told_as_dockerd_does() {
    let rig = Rig::new();
    for error in [
        rig.volumes.inspect("nope").await.unwrap_err(),
        rig.volumes.remove("nope", false).await.unwrap_err(),
        rig.volumes.mount("nope", "c1").await.unwrap_err(),
    ] {
        assert_eq!((chain(&error).as_str(), error.kind()), ("get nope: no such volume", Kind::NotFound));
    }
    rig.volumes.remove("nope", true).await.unwrap();
    assert!(rig.told().is_empty());
}

#[tokio::test]
async fn a_volume_in_use_stays() {
    let rig = Rig::new();
    rig.create("data", "").await.unwrap();
    rig.volumes.mount("data", "c2").await.unwrap();
    rig.volumes.mount("data", "c1").await.unwrap();
    rig.volumes.mount("data", "c1").await.unwrap();
    for force in [false, true] {
        let error = rig.volumes.remove("data", force).await.unwrap_err();
        let text = "remove data: volume is in use - [c1, c2]";
        assert_eq!((chain(&error).as_str(), error.kind()), (text, Kind::Conflict));
    }
    let dangling = |dangling| Filter { dangling: Some(dangling), ..Filter::default() };
    assert_eq!(names(&rig.volumes.list(&dangling(false)).await), ["data"]);
    assert!(names(&rig.volumes.list(&dangling(true)).await).is_empty());
    assert_eq!(rig.volumes.usage().await.unwrap()[0].references, 2);
    rig.volumes.unmount("data", "c1").await.unwrap();
    rig.volumes.unmount("data", "c2").await.unwrap();
    rig.volumes.remove("data", false).await.unwrap();
}

#[tokio::test]
async fn a_prune_takes_what_it_may_and_tells_what_it_freed() {
    let rig = Rig::new();
    let anonymous = || Create { labels: texts(&[("env", "test")]), ..Create::default() };
    let (used, unused) =
        (rig.volumes.create(anonymous()).await.unwrap(), rig.volumes.create(anonymous()).await.unwrap());
    rig.create("named", "").await.unwrap();
    rig.volumes.mount(&used.name, "c1").await.unwrap();
    std::fs::write(unused.mountpoint.as_ref().unwrap().join("file"), vec![1; 8192]).unwrap();
    std::fs::write(rig.root().join("named/_data/file"), vec![1; 4096]).unwrap();

    let sizes: Vec<_> = rig.volumes.usage().await.unwrap().iter().map(|usage| usage.size_bytes).collect();
    assert_eq!(sizes.iter().flatten().sum::<u64>(), 8192 + 4096);
    let pruned = rig.volumes.prune(&Prune::default()).await.unwrap();
    assert_eq!(pruned, Pruned { deleted: vec![unused.name.clone()], reclaimed_bytes: 8192 });
    let told = rig.told();
    assert!(told.contains(&event("destroy", &unused.name, "local")));
    assert_eq!(told.last().unwrap(), &event("prune", "", "8192"));

    let pruned = rig.volumes.prune(&Prune { all: true, ..Prune::default() }).await.unwrap();
    assert_eq!(pruned, Pruned { deleted: vec!["named".to_owned()], reclaimed_bytes: 4096 });
    assert_eq!(names(&rig.list().await), [used.name.as_str()]);
    assert_eq!(rig.volumes.prune(&Prune::default()).await.unwrap(), Pruned::default());
}

#[tokio::test]
async fn two_prunes_at_once_are_a_conflict() {
    let rig = Rig::new();
    let running = rig.volumes.0.pruning.lock().await;
    let error = rig.volumes.prune(&Prune::default()).await.unwrap_err();
    assert_eq!(
        (chain(&error).as_str(), error.kind()),
        ("a prune operation is already running", Kind::Conflict)
    );
    drop(running);
    rig.volumes.prune(&Prune::default()).await.unwrap();
}

#[tokio::test]
async fn a_list_is_by_name_and_filtered() {
    let rig = Rig::new();
    for name in ["web-b", "web-a", "db-a"] {
        rig.create(name, "").await.unwrap();
    }
    assert_eq!(names(&rig.list().await), ["db-a", "web-a", "web-b"]);
    let by = |key: &str, value: &str| {
        Filter::parse(&Terms::from([(key.to_owned(), [value.to_owned()].into())])).unwrap()
    };
    assert_eq!(names(&rig.volumes.list(&by("name", "^web")).await), ["web-a", "web-b"]);
    assert_eq!(names(&rig.volumes.list(&by("driver", "local")).await).len(), 3);
    assert!(names(&rig.volumes.list(&by("driver", "other")).await).is_empty());
}

#[tokio::test]
async fn a_thousand_are_told_without_copies() {
    let rig = Rig::new();
    let names: Vec<_> = (0..1000).map(|number| format!("v{number}")).collect();
    let created = futures_util::future::join_all(names.iter().map(|name| rig.create(name, ""))).await;
    assert!(created.iter().all(Result::is_ok));
    let (one, other) = (rig.list().await, rig.list().await);
    assert_eq!(one.volumes.len(), 1000);
    assert!(one.volumes.iter().zip(&other.volumes).all(|(one, other)| Arc::ptr_eq(one, other)));
    let found = rig.volumes.inspect("v500").await.unwrap();
    assert!(one.volumes.iter().any(|listed| Arc::ptr_eq(listed, &found)));
}

#[tokio::test]
async fn labels_are_replaced_on_disk_and_the_holders_stay() {
    let rig = Rig::new();
    let created = rig.create("v1", "").await.unwrap();
    rig.volumes.mount("v1", "me").await.unwrap();
    let labels = texts(&[("a", "b")]);
    rig.volumes.relabel("v1", labels.clone().unwrap()).await.unwrap();
    rig.volumes.relabel("v1", labels.clone().unwrap()).await.unwrap();
    let expected = Volume { labels, ..Volume::clone(&created) };
    assert_eq!(*rig.volumes.inspect("v1").await.unwrap(), expected);
    assert_eq!(rig.volumes.remove("v1", false).await.unwrap_err().kind(), Kind::Conflict);
    let updates = rig.told().into_iter().filter(|told| *told == event("update", "v1", "local")).count();
    assert_eq!(updates, 1, "the second changed nothing");

    let rig = rig.reopened();
    assert_eq!(*rig.volumes.inspect("v1").await.unwrap(), expected);
    rig.volumes.relabel("v1", Texts::new()).await.unwrap();
    assert_eq!(rig.volumes.inspect("v1").await.unwrap().labels, Some(Texts::new()));
    let error = rig.volumes.relabel("nope", Texts::new()).await.unwrap_err();
    assert_eq!((chain(&error).as_str(), error.kind()), ("get nope: no such volume", Kind::NotFound));
    rig.volumes.unmount("v1", "me").await.unwrap();
}

#[tokio::test]
async fn a_size_that_is_late_is_the_last_one_and_says_so() {
    let rig = Rig::new();
    rig.create("v1", "").await.unwrap();
    let size = |usage: Vec<Usage>| (usage[0].size_bytes, usage[0].measured_at.is_some());
    let write = |bytes: usize| std::fs::write(rig.root().join("v1/_data/file"), vec![1; bytes]).unwrap();
    write(4096);
    assert_eq!(size(rig.volumes.usage().await.unwrap()), (Some(4096), false));
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let slow = move |_: &str| {
        wait.lock().unwrap().recv().unwrap();
        None
    };
    let volume = rig.volumes.inspect("v1").await.unwrap();
    rig.volumes.0.sizes.measure(vec![volume], slow).unwrap();
    write(8192);
    assert_eq!(size(rig.volumes.usage_within(Duration::ZERO).await.unwrap()), (Some(4096), true));
    go.send(()).unwrap();
    assert_eq!(size(rig.volumes.usage().await.unwrap()), (Some(8192), false), "measured after it was asked");
}

#[tokio::test]
async fn a_size_that_cannot_be_kept_keeps_a_volume_from_use() {
    // Memory, which has no projects on any kernel.
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let deadlines = Deadlines { list: Duration::from_millis(200), mount: MOUNT_DEADLINE };
    let rig = Rig::open(directory, Drivers::new(), deadlines);
    let request = || Create { options: texts(&[("size", "1m")]), ..Create::default() };
    // As if the file system had had quotas.
    rig.volumes.record("data", LOCAL_DRIVER, request()).await.unwrap();

    let rig = rig.reopened();
    let told = "size quota requested for volume but no quota support";
    let status = Map::from_iter([("QuotaError".to_owned(), told.into())]);
    assert_eq!(rig.volumes.inspect("data").await.unwrap().status, Some(status));
    let mounted = rig.volumes.mount("data", "one").await.unwrap_err();
    let filled: Result<()> =
        rig.volumes.fill("data", "one", |_| async { panic!("it is not to be used") }).await;
    for refused in [mounted, filled.unwrap_err()] {
        assert_eq!((chain(&refused), refused.kind()), (format!("mount data: {told}"), Kind::Internal));
    }
    rig.volumes.remove("data", false).await.unwrap();
    let again =
        rig.volumes.create(Create { name: Some("data".to_owned()), ..Create::default() }).await.unwrap();
    assert_eq!(rig.volumes.inspect("data").await.unwrap(), again, "nothing is wrong with another volume");
}
