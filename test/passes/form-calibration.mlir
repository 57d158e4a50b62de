// RUN: kvasir-opt %s --pass-pipeline="builtin.module(kvcache.method(kvcache-form-programs))" | FileCheck %s
// Phases that see all rows become one program; each that sees sequences keeps its trigger and what it yields; the phase of
// model scope takes that of all layers. A layer reads the artefact whole and its own part side by side.
!k = !kvcache.tensor<head:2, token:?, channel.post:64, f16>
!v = !kvcache.tensor<head:2, token:?, channel.v:64, f16>
!m = !kvcache.tensor<head:2, channel.post:64, f32>
!n = !kvcache.tensor<head:2, channel.v:64, f32>
!h = !kvcache.tensor<head:2, f32>
!hL = !kvcache.tensor<layer:4, head:2, f32>
kvcache.method @m {
  kvcache.artefact @mean : !m
  kvcache.artefact @mean_v : !n
  kvcache.artefact @heads : !hL else 1.0
  kvcache.phase calibrate (%k = key : !k) {
    %m = kvcache.reduce mean %k over [token] : (!k) -> !m
    kvcache.next @mean = %m : !m
  }
  kvcache.phase calibrate (%v = value : !v) {
    %m = kvcache.reduce mean %v over [token] : (!v) -> !n
    kvcache.next @mean_v = %m : !n
  }
  kvcache.phase calibrate (%k = key : !k) on(repeat(300, 4)) {
    %m = kvcache.reduce max %k over [token, channel.post] : (!k) -> !h
    kvcache.next top = %m : !h
  }
  kvcache.phase calibrate (%k = key : !k) on(text(8, 512)) {
    %m = kvcache.reduce mean %k over [token, channel.post] : (!k) -> !h
    kvcache.next level = %m : !h
  }
  kvcache.phase calibrate (%t = top : !hL, %l = level : !hL) scope(model) {
    %d = kvcache.map "t - l" (t = %t, l = %l) : (!hL, !hL) -> !hL
    kvcache.next @heads = %d : !hL
  }
  kvcache.phase score (%all = @heads : !hL, %own = @heads : !h) {
    %most = kvcache.reduce max %all over [layer] : (!hL) -> !h
    %s = kvcache.map "o / m" (o = %own, m = %most) : (!h, !h) -> !h
    kvcache.next share = %s : !h
  }
  kvcache.phase compress (%s = share : !h) {
    kvcache.next @mean_h = %s : !h
  }
  kvcache.state @mean_h : !h
}
// CHECK-DAG: ![[ALL:.*]] = !kvcache.tensor<layer:4, head:2, f32>
// CHECK-DAG: ![[OWN:.*]] = !kvcache.tensor<head:2, f32>
// CHECK: kvcache.phase calibrate (%{{.*}} = key : {{.*}}, %{{.*}} = value : {{.*}}) {
// CHECK:   kvcache.next @mean = %{{.*}}, @mean_v = %{{.*}}
// CHECK: kvcache.phase calibrate ({{.*}}) on(repeat(300, 4)) {
// CHECK:   kvcache.next top = %
// CHECK: kvcache.phase calibrate ({{.*}}) on(text(8, 512)) {
// CHECK:   kvcache.next level = %
// CHECK: kvcache.phase calibrate_model (%{{.*}} = top : ![[ALL]], %{{.*}} = level : ![[ALL]]) scope(model) {
// CHECK:   kvcache.next @heads = %
// CHECK: kvcache.phase prompt_end (%{{.*}} = @heads : ![[ALL]], %{{.*}} = @heads : ![[OWN]]) {
