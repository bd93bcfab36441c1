//! Whose threads an operation runs on.

use slimpipe_runtime::team;

#[test]
fn a_team_is_current_while_its_guard_lives() {
    assert_eq!(team::current().size(), team::cores());
    let outer = team::enter(3).unwrap();
    assert_eq!(team::current().size(), 3);
    let inner = team::enter(1).unwrap();
    assert_eq!(team::current().size(), 1);
    drop(inner);
    assert_eq!(team::current().size(), 3);
    drop(outer);
    assert_eq!(team::current().size(), team::cores());
}

#[test]
fn each_thread_has_its_own_team() {
    let _team = team::enter(2).unwrap();
    let other = std::thread::spawn(|| team::current().size()).join().unwrap();
    assert_eq!((other, team::current().size()), (team::cores(), 2));
}
