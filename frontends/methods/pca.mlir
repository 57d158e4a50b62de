// Principal components of keys and values: the start of MatryoshkaKV, arXiv 2410.14731, without its training. A row is
// stored as the coefficients of (row - mean) in the `rank` leading eigenvectors of the calibration rows' covariance,
// per layer and KV head; keys after RoPE. Every row is coded at the end of the event that appended it.
// No token budget: rank_k and rank_v say what is kept.
!coeff = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = factor<rank_k, act>, v [channel.v:D] = factor<rank_v, act>, pos = i32}>
!km = !kvcache.tensor<head:Hkv, channel.post:D, f32>
!vm = !kvcache.tensor<head:Hkv, channel.v:D, f32>
!kb = !kvcache.tensor<head:Hkv, channel.post:D, rank:rank_k, f32>
!vb = !kvcache.tensor<head:Hkv, channel.v:D, rank:rank_v, f32>
!kc = !kvcache.tensor<head:Hkv, token:?, channel.post:D, f32>
!vc = !kvcache.tensor<head:Hkv, token:?, channel.v:D, f32>
!ct = !kvcache.tensor<head:Hkv, token:?, channel.other:D, f32>
!kk = !kvcache.tensor<head:Hkv, channel.post:D, channel.other:D, f32>
!vv = !kvcache.tensor<head:Hkv, channel.v:D, channel.other:D, f32>
!values = !kvcache.tensor<head:Hkv, rank:D, f32>
!kvec = !kvcache.tensor<head:Hkv, channel.post:D, rank:D, f32>
!vvec = !kvcache.tensor<head:Hkv, channel.v:D, rank:D, f32>
kvcache.method @pca info {family = "project", paper = "arXiv 2410.14731", title = "Principal components"} {
  kvcache.param @rank_k = "D / 2" : i64 in [1, 65536]
  kvcache.param @rank_v = "D / 2" : i64 in [1, 65536]
  kvcache.artefact @k_mean : !km
  kvcache.artefact @k_basis : !kb
  kvcache.artefact @v_mean : !vm
  kvcache.artefact @v_basis : !vb
  kvcache.state @kv : !coeff fixed {k = [@k_basis, @k_mean], v = [@v_basis, @v_mean]}
  kvcache.phase calibrate (%k = key : !kT, %v = value : !vT, %rk = @rank_k : i64, %rv = @rank_v : i64) {
    %zero = arith.constant 0 : i64
    %n = kvcache.extent token of %k : (!kT) -> index
    %km = kvcache.reduce mean %k over [token] : (!kT) -> !km
    %kc = kvcache.map %k, %km with arith.subf : (!kT, !km) -> !kc
    %kt = kvcache.relabel %kc : (!kc) -> !ct
    %kk = kvcache.contract %kc, %kt over [token] : (!kc, !ct) -> !kk
    %kcov = kvcache.map "x / n" (x = %kk, n = %n) : (!kk, index) -> !kk
    %kw, %kq = kvcache.eigh %kcov : (!kk) -> (!values, !kvec)
    %kb = kvcache.slice %kq along rank from %zero size %rk : (!kvec, i64, i64) -> !kb
    %vm = kvcache.reduce mean %v over [token] : (!vT) -> !vm
    %vc = kvcache.map %v, %vm with arith.subf : (!vT, !vm) -> !vc
    %vt = kvcache.relabel %vc : (!vc) -> !ct
    %vv = kvcache.contract %vc, %vt over [token] : (!vc, !ct) -> !vv
    %vcov = kvcache.map "x / n" (x = %vv, n = %n) : (!vv, index) -> !vv
    %vw, %vq = kvcache.eigh %vcov : (!vv) -> (!values, !vvec)
    %vb = kvcache.slice %vq along rank from %zero size %rv : (!vvec, i64, i64) -> !vb
    kvcache.next @k_mean = %km : !km, @k_basis = %kb : !kb, @v_mean = %vm : !vm, @v_basis = %vb : !vb
  }
}
