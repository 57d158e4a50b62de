// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Slabs of the arena. A slab is a run of 64 KiB units and serves one size class; its addresses are
// used again, by any class that needs as many units, once all its pages are back.

#include "runtime/cache/Arena.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <sys/mman.h>

namespace kvcache::rt {

static constexpr int64_t slabUnit = 64 << 10;
static constexpr int64_t commitStep = 4 << 20;
static constexpr int64_t pageAlignment = 64;

static int64_t roundUp(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

StatusOr<std::unique_ptr<Arena>> Arena::create(int64_t maxBytes) {
  int64_t bytes = roundUp(std::max<int64_t>(maxBytes, slabUnit), slabUnit);
  for (; bytes >= slabUnit; bytes = bytes / 2 / slabUnit * slabUnit) {
    void *range = mmap(nullptr, static_cast<size_t>(bytes), PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range != MAP_FAILED) {
      std::unique_ptr<Arena> arena(new Arena());
      arena->base_ = static_cast<char *>(range);
      arena->capacity_ = bytes;
      return arena;
    }
  }
  return Status::unavailable(std::string("cannot reserve addresses for the cache: ") +
                             std::strerror(errno));
}

Arena::~Arena() { munmap(base_, static_cast<size_t>(capacity_)); }

int64_t Arena::pageFootprint(int64_t pageBytes) { return roundUp(pageBytes, pageAlignment); }

int32_t Arena::sizeClass(int64_t bytes) {
  int64_t pageBytes = pageFootprint(bytes);
  for (size_t i = 0; i < classes_.size(); ++i) {
    if (classes_[i].pageBytes == pageBytes) {
      return static_cast<int32_t>(i);
    }
  }
  SizeClass added;
  added.pageBytes = pageBytes;
  added.slabBytes = roundUp(pageBytes, slabUnit);
  added.pagesPerSlab = static_cast<int32_t>(added.slabBytes / pageBytes);
  classes_.push_back(std::move(added));
  return static_cast<int32_t>(classes_.size()) - 1;
}

Status Arena::allocate(int32_t sizeClass, Account &account, int64_t &offset) {
  if (classes_[sizeClass].open.empty()) {
    KVCACHE_RETURN_IF_ERROR(openSlab(sizeClass));
  }
  SizeClass &owner = classes_[sizeClass];
  int32_t index = owner.open.back();
  Slab &slab = slabs_[index];
  int32_t page = slab.pagesTouched;
  bool used = !slab.freed.empty();
  if (used) {
    page = slab.freed.back();
    slab.freed.pop_back();
  } else {
    ++slab.pagesTouched;
  }
  if (++slab.pagesInUse == owner.pagesPerSlab) {
    removeOpen(owner, index);
  }
  if (owner.spare == index) {
    owner.spare = -1;
  }
  offset = slab.offset + page * owner.pageBytes;
  if (used) {
    std::memset(base_ + offset, 0, static_cast<size_t>(owner.pageBytes));
  }
  bytesInUse_ += owner.pageBytes;
  account.bytes += owner.pageBytes;
  ++account.pages;
  return Status::ok();
}

void Arena::release(int32_t sizeClass, Account &account, int64_t offset) {
  SizeClass &owner = classes_[sizeClass];
  int32_t index = slabOfUnit_[offset / slabUnit];
  Slab &slab = slabs_[index];
  slab.freed.push_back(static_cast<int32_t>((offset - slab.offset) / owner.pageBytes));
  bytesInUse_ -= owner.pageBytes;
  account.bytes -= owner.pageBytes;
  --account.pages;
  if (slab.position < 0) {
    addOpen(owner, index);
  }
  if (--slab.pagesInUse > 0) {
    return;
  }
  if (owner.spare < 0) {
    owner.spare = index;
  } else {
    closeSlab(index);
  }
}

/// Puts a slab with only free pages at the service of the class.
Status Arena::openSlab(int32_t sizeClass) {
  int64_t bytes = classes_[sizeClass].slabBytes;
  auto again = std::find_if(returned_.rbegin(), returned_.rend(),
                            [&](int32_t i) { return slabs_[i].bytes == bytes; });
  int32_t index;
  if (again != returned_.rend()) {
    index = *again;
    returned_.erase(std::next(again).base());
  } else {
    if (bytes > capacity_ - top_) {
      return Status::unavailable("the cache needs more than the " +
                                 std::to_string(capacity_ >> 20) +
                                 " MiB of addresses reserved for it");
    }
    KVCACHE_RETURN_IF_ERROR(commit(top_ + bytes));
    index = static_cast<int32_t>(slabs_.size());
    slabs_.emplace_back();
    slabs_.back().offset = top_;
    slabs_.back().bytes = bytes;
    top_ += bytes;
    slabOfUnit_.resize(top_ / slabUnit, index);
  }
  Slab &slab = slabs_[index];
  slab.sizeClass = sizeClass;
  slab.freed.reserve(classes_[sizeClass].pagesPerSlab);
  bytesCommitted_ += bytes;
  addOpen(classes_[sizeClass], index);
  return Status::ok();
}

/// Makes the addresses below `end` writable.
Status Arena::commit(int64_t end) {
  if (end <= writable_) {
    return Status::ok();
  }
  int64_t wanted = std::min(capacity_, roundUp(end, commitStep));
  if (mprotect(base_ + writable_, static_cast<size_t>(wanted - writable_),
               PROT_READ | PROT_WRITE) != 0) {
    return Status::unavailable("cannot get memory for the cache beyond " +
                               std::to_string(writable_ >> 20) + " MiB: " + std::strerror(errno));
  }
  writable_ = wanted;
  return Status::ok();
}

/// Returns the memory of an empty slab to the system; it reads as zero when it is used again.
void Arena::closeSlab(int32_t index) {
  Slab &slab = slabs_[index];
  removeOpen(classes_[slab.sizeClass], index);
  if (madvise(base_ + slab.offset, static_cast<size_t>(slab.bytes), MADV_DONTNEED) != 0) {
    std::memset(base_ + slab.offset, 0, static_cast<size_t>(slab.bytes));
  }
  bytesCommitted_ -= slab.bytes;
  slab.freed.clear();
  slab.pagesTouched = 0;
  slab.sizeClass = -1;
  returned_.push_back(index);
}

void Arena::addOpen(SizeClass &owner, int32_t index) {
  slabs_[index].position = static_cast<int32_t>(owner.open.size());
  owner.open.push_back(index);
}

void Arena::removeOpen(SizeClass &owner, int32_t index) {
  int32_t position = slabs_[index].position;
  owner.open[position] = owner.open.back();
  slabs_[owner.open[position]].position = position;
  owner.open.pop_back();
  slabs_[index].position = -1;
}

} // namespace kvcache::rt
