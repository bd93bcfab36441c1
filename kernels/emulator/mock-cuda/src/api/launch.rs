//! Launching kernels.

use std::{
    ffi::{c_uint, c_void},
    sync::Arc,
};

use cudarc::driver::sys::{
    CUfunction, CUlaunchAttribute, CUlaunchAttributeID, CUlaunchConfig, CUresult, CUstream,
};
use slimpipe_emulator::{self as emulator, FaultKind};

use super::{function, stream};
use crate::{
    abi::{Answer, driver_functions},
    counters::count_launch,
    fault::Fault,
    memory::space,
    module::{Function, Sizes},
    settings,
};

/// `CU_LAUNCH_PARAM_BUFFER_POINTER` and `CU_LAUNCH_PARAM_BUFFER_SIZE`: how `extra` gives parameters
/// as one block.
const BUFFER: usize = 1;
const BUFFER_SIZE: usize = 2;

/// A kernel's parameters, laid out as its code wants them.
///
/// # Safety
/// `parameters` must point to as many values as the kernel has, or `extra` be a list that ends in
/// null.
unsafe fn gather(
    function: &Function,
    parameters: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Result<Vec<u8>, CUresult> {
    let mut bytes = vec![0u8; function.kernel.param_bytes()];
    // SAFETY: promised by the caller.
    unsafe {
        if !parameters.is_null() {
            for (i, param) in function.kernel.params().iter().enumerate() {
                let value = (*parameters.add(i)).cast::<u8>();
                let place = bytes[param.offset..][..param.bytes].as_mut_ptr();
                place.copy_from_nonoverlapping(value, param.bytes);
            }
        } else if !extra.is_null() {
            let (mut buffer, mut given) = (std::ptr::null::<u8>(), 0);
            let mut at = extra;
            while !(*at).is_null() {
                match *at as usize {
                    BUFFER => buffer = (*at.add(1)).cast(),
                    BUFFER_SIZE => given = *(*at.add(1)).cast::<usize>(),
                    _ => return Err(CUresult::CUDA_ERROR_INVALID_VALUE),
                }
                at = at.add(2);
            }
            if given < bytes.len() {
                return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
            }
            bytes.as_mut_ptr().copy_from_nonoverlapping(buffer, bytes.len());
        } else if !bytes.is_empty() {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
    }
    Ok(bytes)
}

/// Puts a kernel on a stream.
///
/// # Safety
/// As [`gather`].
unsafe fn launch(
    function: CUfunction,
    sizes: Sizes,
    stream: CUstream,
    parameters: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Answer {
    let function = function::find(function)?;
    let (context, stream) = stream::find(stream)?;
    if !Arc::ptr_eq(&context, &function.module.context) {
        return Err(CUresult::CUDA_ERROR_INVALID_HANDLE);
    }
    let name = function.kernel.name().to_owned();
    function.check(&sizes).map_err(|refused| {
        eprintln!("mock CUDA driver: a launch of {name} was refused: {}", refused.text);
        refused.code
    })?;
    // SAFETY: promised by the caller.
    let params = unsafe { gather(&function, parameters, extra) }?;
    count_launch(&name);
    let planted = settings::strikes(|s| &mut s.fail_launch, &name);
    let device = context.device;
    let body = move |alive: bool| {
        if !alive {
            return Ok(());
        }
        if planted {
            let name = function.kernel.name();
            return Err(Fault::launch_failed(format!("{name}: a fault planted by the test")));
        }
        run(&function, &sizes, &params, device)
    };
    context.submit(&stream, name, Vec::new(), Box::new(body));
    Ok(())
}

fn run(function: &Function, sizes: &Sizes, params: &[u8], device: usize) -> Result<(), Fault> {
    let _held = space::hold();
    let (policy, threads) = settings::with(|s| (s.policy, s.threads));
    let launch = emulator::Launch {
        cluster: sizes.cluster,
        shared: sizes.shared,
        policy,
        threads,
        ..emulator::Launch::new(&function.kernel, sizes.grid, sizes.block, params)
    };
    let fault = match launch.run(space::of_device(device)) {
        Ok(_) => return Ok(()),
        Err(fault) => fault,
    };
    let code = match fault.kind {
        FaultKind::OutOfBounds | FaultKind::Freed => CUresult::CUDA_ERROR_ILLEGAL_ADDRESS,
        FaultKind::Misaligned => CUresult::CUDA_ERROR_MISALIGNED_ADDRESS,
        _ => CUresult::CUDA_ERROR_LAUNCH_FAILED,
    };
    Err(Fault { code, text: fault.to_string() })
}

/// The blocks of a cluster that a launch's attributes ask for.
///
/// # Errors
/// `CUDA_ERROR_NOT_SUPPORTED` for attributes that change what a kernel may do and are not imitated.
///
/// # Safety
/// There must be as many attributes as the configuration says.
pub(super) unsafe fn cluster(config: &CUlaunchConfig) -> Result<Option<[u32; 3]>, CUresult> {
    use CUlaunchAttributeID::*;
    let attributes: &[CUlaunchAttribute] = match config.numAttrs {
        0 => &[],
        // SAFETY: promised by the caller.
        n => unsafe { std::slice::from_raw_parts(config.attrs, n as usize) },
    };
    let mut cluster = None;
    for attribute in attributes {
        match attribute.id {
            CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION => {
                // SAFETY: the attribute of this name has this field.
                let size = unsafe { attribute.value.clusterDim };
                cluster = Some([size.x, size.y, size.z]);
            }
            // Work of the stream before is done anyway when a kernel begins.
            CU_LAUNCH_ATTRIBUTE_IGNORE
            | CU_LAUNCH_ATTRIBUTE_PRIORITY
            | CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW
            | CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
            | CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE
            | CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT => {}
            other => {
                eprintln!("mock CUDA driver: the launch attribute {other:?} is not imitated");
                return Err(CUresult::CUDA_ERROR_NOT_SUPPORTED);
            }
        }
    }
    Ok(cluster)
}

driver_functions! {
    fn cuLaunchKernel(
        function: CUfunction,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared: c_uint,
        stream: CUstream,
        parameters: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) {
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        let sizes = Sizes { grid, block, cluster: None, shared };
        launch(function, sizes, stream, parameters, extra)
    }

    fn cuLaunchKernelEx(
        config: *const CUlaunchConfig,
        function: CUfunction,
        parameters: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) {
        let config = config.as_ref().ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)?;
        let sizes = Sizes {
            grid: [config.gridDimX, config.gridDimY, config.gridDimZ],
            block: [config.blockDimX, config.blockDimY, config.blockDimZ],
            cluster: cluster(config)?,
            shared: config.sharedMemBytes,
        };
        launch(function, sizes, config.hStream, parameters, extra)
    }
}
