// RUN: %kvasir verify %s --require-fused | FileCheck %s
// REQUIRES: kvasir
// Most functions of the expression form, and the roles layer, layers and length.
// CHECK: 11 cases of {{.*}} agree with the reference
kvcache.method @all_functions info {family = "score", paper = "", title = "all-functions"} {
  kvcache.param @budget = 64 : index
  kvcache.state @kv : !kv
  kvcache.phase score (%kv = @kv : !kv, %T = length : index, %l = layer : index, %L = layers : index) on(prompt_end) {
    %v = kvcache.column v of %kv : (!kv) -> !vT
    %lo = kvcache.reduce min %v over [channel.v] : (!vT) -> !s
    %hi = kvcache.reduce max %v over [channel.v] : (!vT) -> !s
    %pos = kvcache.column pos of %kv : (!kv) -> !kvcache.tensor<head:Hkv, token:?, i32>
    %s = kvcache.map "(hi - lo) * tanh(exp(-abs(p - T) / 50)) + l / L + log(1 + hi * hi)" (hi = %hi, lo = %lo, p = %pos, T = %T, l = %l, L = %L) : (!s, !s, !kvcache.tensor<head:Hkv, token:?, i32>, index, index, index) -> !s
    kvcache.next score = %s : !s
  }
}
