// RUN: not %kvasir compile %s --emit=mlir:composed 2>&1 | FileCheck %s
// REQUIRES: kvasir
// A cache is updated in place. Reading the version from before would need a copy, and none is made silently.
!norms = !kvcache.tensor<head:Hkv, token:?, f32>
kvcache.method @linear_use info {family = "score", paper = "", title = ""} {
  kvcache.param @budget = 128 : index
  kvcache.state @kv : !kv
  kvcache.phase score (%kv = @kv : !kv) on(prompt_end) {
    %v = kvcache.column v of %kv : (!kv) -> !vT
    %s = kvcache.score.norm %v over [channel.v] : (!vT) -> !s
    kvcache.next score = %s : !s
  }
  kvcache.phase compress (%kv = @kv : !kv, %keep = keep : !keep) {
    %c = kvcache.gather %kv at %keep : (!kv, !keep) -> !kv
    %v = kvcache.column v of %kv : (!kv) -> !vT
    %d = kvcache.set_column %c, v = %v : (!kv, !vT) -> !kv
    kvcache.next @kv = %d : !kv
  }
}
// CHECK: error: {{.*}}linear-use.mlir:15:{{.*}}reads a version of the cache that was updated before
