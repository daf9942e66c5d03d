//! Offsets and sizes beside those of the installed headers of rdma-core, as the C compiler has them. Where headers or compiler are not
//! there, the comparison is skipped, and that is said.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use mlx5_shim::cqe::{Completion, ENTRY, Outcome};
use mlx5_shim::wqe::{BLOCK, Control, Descriptor, Opcode, Piece, StaticParams};

/// Name and C expression of each number that is compared.
const ASKED: &[(&str, &str)] = &[
    ("ctrl", "sizeof(struct mlx5_wqe_ctrl_seg)"),
    ("ctrl.opmod", "offsetof(struct mlx5_wqe_ctrl_seg, opmod_idx_opcode)"),
    ("ctrl.qpn_ds", "offsetof(struct mlx5_wqe_ctrl_seg, qpn_ds)"),
    ("ctrl.fm_ce_se", "offsetof(struct mlx5_wqe_ctrl_seg, fm_ce_se)"),
    ("ctrl.imm", "offsetof(struct mlx5_wqe_ctrl_seg, imm)"),
    ("eth.cs_flags", "offsetof(struct mlx5_wqe_eth_seg, cs_flags)"),
    ("eth.mss", "offsetof(struct mlx5_wqe_eth_seg, mss)"),
    ("eth.inline_hdr_sz", "offsetof(struct mlx5_wqe_eth_seg, inline_hdr_sz)"),
    ("eth.inline_hdr_start", "offsetof(struct mlx5_wqe_eth_seg, inline_hdr_start)"),
    ("data", "sizeof(struct mlx5_wqe_data_seg)"),
    ("data.byte_count", "offsetof(struct mlx5_wqe_data_seg, byte_count)"),
    ("data.lkey", "offsetof(struct mlx5_wqe_data_seg, lkey)"),
    ("data.addr", "offsetof(struct mlx5_wqe_data_seg, addr)"),
    ("umr", "sizeof(struct mlx5_wqe_umr_ctrl_seg)"),
    ("mkey", "sizeof(struct mlx5_wqe_mkey_context_seg)"),
    ("umr.flags", "offsetof(struct mlx5_wqe_umr_ctrl_seg, flags)"),
    ("umr.bsf", "offsetof(struct mlx5_wqe_umr_ctrl_seg, translation_offset)"),
    ("inline", "MLX5_WQE_UMR_CTRL_FLAG_INLINE"),
    ("cqe", "sizeof(struct mlx5_cqe64)"),
    ("cqe.sop", "offsetof(struct mlx5_cqe64, sop_drop_qpn)"),
    ("cqe.counter", "offsetof(struct mlx5_cqe64, wqe_counter)"),
    ("cqe.op_own", "offsetof(struct mlx5_cqe64, op_own)"),
    ("err.syndrome", "offsetof(struct mlx5_err_cqe, syndrome)"),
    ("err.vendor", "offsetof(struct mlx5_err_cqe, vendor_err_synd)"),
    ("op.nop", "MLX5_OPCODE_NOP"),
    ("op.send", "MLX5_OPCODE_SEND"),
    ("op.tso", "MLX5_OPCODE_TSO"),
    ("op.umr", "MLX5_OPCODE_UMR"),
    ("op.set_psv", "MLX5_OPCODE_SET_PSV"),
    ("fence", "MLX5_WQE_CTRL_INITIATOR_SMALL_FENCE"),
    ("signal", "MLX5_WQE_CTRL_CQ_UPDATE"),
    ("csum", "MLX5_ETH_WQE_L3_CSUM | MLX5_ETH_WQE_L4_CSUM"),
    ("cqe.req", "MLX5_CQE_REQ"),
    ("cqe.req_err", "MLX5_CQE_REQ_ERR"),
    ("send_bb", "MLX5_SEND_WQE_BB"),
    ("snd_dbr", "MLX5_SND_DBR"),
];

/// What the C compiler says to them, which is asked once. `None` where it cannot be.
fn asked() -> Option<&'static BTreeMap<&'static str, u64>> {
    static SAID: OnceLock<Option<BTreeMap<&'static str, u64>>> = OnceLock::new();
    SAID.get_or_init(ask).as_ref()
}

fn ask() -> Option<BTreeMap<&'static str, u64>> {
    if !Path::new("/usr/include/infiniband/mlx5dv.h").exists() {
        eprintln!("SKIPPED: there are no headers of rdma-core here (package libibverbs-dev)");
        return None;
    }
    let folder = tempdir();
    let (source, program) = (folder.join("ask.c"), folder.join("ask"));
    let mut text =
        String::from("#include <stddef.h>\n#include <stdio.h>\n#include <infiniband/mlx5dv.h>\nint main(void) {\n");
    for (name, expression) in ASKED {
        text.push_str(&format!("  printf(\"{name} %llu\\n\", (unsigned long long)({expression}));\n"));
    }
    text.push_str("  return 0;\n}\n");
    std::fs::write(&source, text).expect("a file can be written");
    let compiled = Command::new("cc").arg(&source).arg("-o").arg(&program).output();
    let Some(compiled) = compiled.ok().filter(|output| output.status.success()) else {
        panic!("the headers are there, but this does not compile: is there no C compiler?");
    };
    assert!(compiled.status.success());
    let said = Command::new(&program).output().expect("what was compiled runs");
    let _ = std::fs::remove_dir_all(&folder);
    let said = String::from_utf8(said.stdout).expect("it prints numbers");
    let number = |name: &str| {
        said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok()).expect("it was asked")
    };
    Some(ASKED.iter().map(|(name, _)| (*name, number(name))).collect())
}

fn tempdir() -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("mlx5-shim-layout-{}", std::process::id()));
    std::fs::create_dir_all(&path).expect("a folder can be made");
    path
}

/// Each field of our descriptors stands where the header says, with the value that it names.
#[test]
fn descriptors_stand_as_in_the_headers() {
    let Some(c) = asked() else { return };
    let at = |name: &str| c[name] as usize;
    let control = Control { index: 0x0102, queue: 0x030405, tis: 0x060708, fence: true, signal: true };
    let piece = Piece { len: 0x11121314, lkey: 0x21222324, address: 0x3132_3334_3536_3738 };
    let header = [0xab; 42];
    let lso = Descriptor::lso(control, 0x0578, &header, &[piece]);
    let bytes = lso.bytes();
    assert_eq!((at("ctrl"), at("data"), at("send_bb")), (16, 16, BLOCK));
    assert_eq!(bytes[at("ctrl.opmod")..][..4], [0, 1, 2, c["op.tso"] as u8]);
    assert_eq!(bytes[at("ctrl.qpn_ds")..][..3], [3, 4, 5]);
    assert_eq!(u64::from(bytes[at("ctrl.fm_ce_se")]), c["fence"] | c["signal"]);
    assert_eq!(bytes[at("ctrl.imm")..][..4], [6, 7, 8, 0]);
    let eth = at("ctrl");
    assert_eq!(u64::from(bytes[eth + at("eth.cs_flags")]), c["csum"]);
    assert_eq!(bytes[eth + at("eth.mss")..][..2], [0x05, 0x78]);
    assert_eq!(bytes[eth + at("eth.inline_hdr_sz")..][..2], [0, 42]);
    let start = eth + at("eth.inline_hdr_start");
    assert_eq!(bytes[start..start + 42], header);
    let data = (start + 42).next_multiple_of(at("data"));
    assert_eq!(bytes[data + at("data.byte_count")..][..4], [0x11, 0x12, 0x13, 0x14]);
    assert_eq!(bytes[data + at("data.lkey")..][..4], [0x21, 0x22, 0x23, 0x24]);
    assert_eq!(bytes[data + at("data.addr")..][..2], [0x31, 0x32]);
    for (ours, theirs) in [
        (Opcode::Nop, "op.nop"),
        (Opcode::Send, "op.send"),
        (Opcode::Lso, "op.tso"),
        (Opcode::Static, "op.umr"),
        (Opcode::Progress, "op.set_psv"),
    ] {
        assert_eq!(ours as u64, c[theirs], "{theirs}");
    }
    let fixed = Descriptor::static_params(control, &StaticParams { number: 1, salt: [1; 4], dek: 1 });
    let params = at("ctrl") + at("umr") + at("mkey");
    assert_eq!(fixed.bytes()[params], 0x89, "the parameters follow the segments of the header's sizes");
    assert_eq!(u64::from(fixed.bytes()[at("ctrl") + at("umr.flags")]), c["inline"]);
    assert_eq!(fixed.bytes()[at("ctrl") + at("umr.bsf")..][..2], [0, 4], "the field has another name there");
    assert_eq!(c["snd_dbr"], 1);
}

#[test]
fn completions_stand_as_in_the_headers() {
    let Some(c) = asked() else { return };
    let at = |name: &str| c[name] as usize;
    assert_eq!(at("cqe"), ENTRY);
    let completion = Completion { queue: 0x010203, index: 0x0405, outcome: Outcome::Failed { syndrome: 6, vendor: 7 } };
    let entry = completion.emit(0, 1);
    assert_eq!(entry[at("cqe.sop") + 1..][..3], [1, 2, 3]);
    assert_eq!(entry[at("cqe.counter")..][..2], [4, 5]);
    assert_eq!((entry[at("err.syndrome")], entry[at("err.vendor")]), (6, 7));
    assert_eq!(u64::from(entry[at("cqe.op_own")] >> 4), c["cqe.req_err"]);
    let done = Completion { outcome: Outcome::Done, ..completion }.emit(0, 1);
    assert_eq!(u64::from(done[at("cqe.op_own")] >> 4), c["cqe.req"]);
}
