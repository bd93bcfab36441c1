//! The search against trying everything, and its plans against what must be.

use slimpipe_pipeline::schedule::{Exchange, ScheduleKind};
use slimpipe_train::hardware::Hardware;
use slimpipe_train::model::Recompute;
use slimpipe_train::plan::memory::GIB;
use slimpipe_train::plan::{
    Accounting, Closest, Layout, Model, Plan, Setup, Site, Space, Workload,
};

fn work(model: &str, context: u64, batch: u32, gpus: u32) -> Workload {
    Workload::new(Model::open(model).unwrap(), context << 10, Some(batch), gpus).unwrap()
}

fn h800() -> Hardware {
    Hardware::open("h800-80g").unwrap()
}

fn site<'a>(work: &'a Workload, hardware: &'a Hardware) -> Site<'a> {
    Site { work, hardware, accounting: Accounting::Runtime }
}

fn plan(site: &Site<'_>, layout: &str) -> Plan {
    let layout: Layout = layout.parse().unwrap();
    site.plan(&Setup::new(layout, ScheduleKind::SlimPipe).shared(site.work)).unwrap()
}

#[test]
fn nothing_that_fits_is_faster_than_the_first_of_the_search() {
    let (work, hardware) = (work("llama-13b", 64, 8, 16), h800());
    let site = site(&work, &hardware);
    let space = Space { offload: false, ..Space::slimpipe() };
    let found = site.search(&space, 5).unwrap();
    assert!(found.simulated < found.fitting, "{found:?}");
    let mut tried = 0;
    for tensor in [1, 2, 4, 8] {
        for context in [1, 2, 4, 8, 16] {
            for pipeline in [1, 2, 4, 8] {
                let inner = tensor * context * pipeline;
                if inner > 16 {
                    continue;
                }
                let data = 16 / inner;
                for (multiple, chunks) in [(1, 1), (2, 1), (4, 1), (1, 5), (2, 5), (4, 5)] {
                    let slices = multiple * pipeline;
                    let layout =
                        Layout { tensor, context, pipeline, expert: 1, data, slices, chunks };
                    for recompute in Recompute::ALL {
                        let setup = Setup::new(layout, ScheduleKind::SlimPipe).shared(&work);
                        let setup = Setup { recompute, ..setup };
                        let Ok(plan) = site.plan(&setup) else { continue };
                        tried += 1;
                        let first = &found.plans[0];
                        assert!(
                            !plan.fits() || plan.seconds >= first.seconds * (1.0 - 1e-9),
                            "{} takes {}, {} takes {}",
                            plan.setup,
                            plan.seconds,
                            first.setup,
                            first.seconds
                        );
                    }
                }
            }
        }
    }
    assert!(tried > 200, "{tried}");
    assert!(found.plans.iter().all(Plan::fits));
    assert!(found.plans.is_sorted_by(|a, b| a.seconds <= b.seconds));
}

/// The search for `work` finds nothing, and what it says of that.
fn told_where_nothing_fits(work: &Workload) -> (Closest, String) {
    let hardware = h800();
    let site = site(work, &hardware);
    let found = site.search(&Space::slimpipe(), 1).unwrap();
    assert!(found.plans.is_empty());
    let closest = found.closest.unwrap();
    assert_eq!(site.memory(&closest.setup).unwrap(), closest.memory);
    let told = site.nothing_fits(found.closest).to_string();
    let lacks = format!("lacks {:.2}", (closest.memory.peak - site.room()) / GIB);
    assert!(told.contains(&lacks) && told.contains(&closest.setup.to_string()), "{told}");
    (closest, told)
}

#[test]
fn where_nothing_fits_the_closest_is_the_setup_that_holds_least() {
    let (work, hardware) = (work("llama-7b", 64, 8, 1), h800());
    let (closest, told) = told_where_nothing_fits(&work);
    let site = site(&work, &hardware);
    for slices in [1, 2, 4, 8, 16] {
        for chunks in [1, 2, 4, 8, 16, 32] {
            for recompute in Recompute::ALL {
                for offload in [0.0, 0.25, 0.5, 0.75, 1.0] {
                    let layout = format!("n={slices},v={chunks}").parse().unwrap();
                    let setup = Setup::new(layout, ScheduleKind::SlimPipe).shared(&work);
                    let memory = site.memory(&Setup { recompute, offload, ..setup }).unwrap();
                    assert!(memory.peak >= closest.memory.peak, "{setup}, {recompute} {offload}");
                    assert!(memory.fixed() >= closest.fixed);
                }
            }
        }
    }
    let fixed = format!("optimizer alone take {:.2} GiB", closest.fixed / GIB);
    assert!(told.contains(&fixed) && !told.contains("context"), "{told}");
}

#[test]
fn a_shorter_context_is_advised_only_where_weights_leave_room() {
    let (closest, told) = told_where_nothing_fits(&work("llama-149b", 512, 8, 16));
    assert!(closest.fixed > 80.0 * GIB && !told.contains("--context"), "{told}");
    let (closest, told) = told_where_nothing_fits(&work("llama-7b", 4096, 1, 8));
    assert!(closest.fixed < 40.0 * GIB && told.contains("a shorter --context may do"), "{told}");
}

#[test]
fn time_is_never_less_than_the_models_arithmetic_at_the_rates_of_the_kernels() {
    let hardware = h800();
    for (model, layout, gpus) in [
        ("llama-7b", "p=1,n=4", 1),
        ("llama-70b", "t=4,p=8,d=4,n=8,v=10", 128),
        ("llama-70b", "t=4,c=2,p=8,d=2,n=8,v=5", 128),
        ("mixtral-8x7b", "c=2,p=8,e=8,d=8,n=8,v=4", 128),
    ] {
        let work = work(model, 64, 32, gpus);
        let plan = plan(&site(&work, &hardware), layout);
        let flops = work.model.flops_per_token(work.context) * 65_536.0 * 32.0 / f64::from(gpus);
        assert!(plan.spent.products + plan.spent.attention > flops / 893e12, "{}", plan.setup);
        // Four and a half FLOPs of attention's backward are made for every four that count.
        assert!(plan.seconds >= plan.spent.total() * (1.0 - 1e-9), "{}", plan.setup);
        let parts: f64 = plan.times().iter().map(|(_, seconds)| seconds).sum();
        assert!((parts / plan.seconds - 1.0).abs() < 1e-9, "{}: parts add up", plan.setup);
        assert!(plan.mfu > 0.2 && plan.mfu < 0.75, "{}: {}", plan.setup, plan.mfu);
    }
}

#[test]
fn one_gpu_alone_neither_waits_nor_talks() {
    let (work, hardware) = (work("llama-7b", 16, 2, 1), h800());
    let plan = plan(&site(&work, &hardware), "n=4");
    assert_eq!(plan.spent.communication, 0.0);
    assert!(plan.bubble.abs() < 1e-9, "{}", plan.bubble);
}

#[test]
fn each_mechanism_costs_and_saves_what_it_is_for() {
    let (work, hardware) = (work("llama-70b", 256, 16, 128), h800());
    let site = site(&work, &hardware);
    let layout: Layout = "t=4,p=8,d=4,n=16,v=5".parse().unwrap();
    let setup = Setup::new(layout, ScheduleKind::SlimPipe).shared(&work);
    let of = |setup| site.plan(&setup).unwrap();
    let shared = of(setup);
    let [partial, full] =
        [Recompute::Partial, Recompute::Full].map(|recompute| of(Setup { recompute, ..setup }));
    assert!(full.memory.activations < partial.memory.activations);
    assert!(partial.memory.activations < shared.memory.activations);
    assert!(full.spent.recompute > 5.0 * partial.spent.recompute);
    assert!(partial.spent.recompute > 0.0 && shared.spent.recompute == 0.0);
    let alone = of(Setup { exchange: Exchange::Off, ..setup });
    assert!(alone.bubble > 2.0 * shared.bubble, "{} and {}", alone.bubble, shared.bubble);
    let offload = of(Setup { offload: 0.75, ..setup });
    assert!(offload.memory.activations < 0.4 * shared.memory.activations);
    let ends = of(Setup { vocabulary: false, ..setup });
    assert!(ends.seconds > shared.seconds && ends.memory.peak > shared.memory.peak);
}

#[test]
fn slower_links_make_slower_steps() {
    let work = work("llama-70b", 64, 64, 128);
    let seconds = |name: &str, layout: &str| {
        let hardware = Hardware::open(name).unwrap();
        plan(&site(&work, &hardware), layout).seconds
    };
    // An H800 is an H100 with less of NVLink: those who use it most notice most.
    let wide = "t=8,p=4,d=4,n=4,v=20";
    let narrow = "t=1,p=16,d=8,n=16,v=5";
    assert!(seconds("h800-80g", wide) > 1.02 * seconds("h100-80g", wide));
    assert!(seconds("h800-80g", narrow) < 1.005 * seconds("h100-80g", narrow));
}

#[test]
fn every_neighbour_of_the_best_plan_is_explained_and_none_beats_it() {
    let (work, hardware) = (work("llama-70b", 256, 16, 128), h800());
    let site = site(&work, &hardware);
    let space = Space { offload: false, ..Space::slimpipe() };
    let best = site.search(&space, 1).unwrap().plans[0];
    let neighbours = site.why(&best);
    assert!(neighbours.len() > 10, "{neighbours:?}");
    for of in &neighbours {
        let known = ["does not fit: lacks", "slower", "equally fast", "cannot be: "];
        let is_known = known.iter().any(|known| of.verdict.contains(known));
        assert!(is_known || of.change.starts_with("offload"), "{of:?}");
    }
}
