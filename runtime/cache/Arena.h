// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The memory of every cache page: one reserved range of addresses from which pages of a few sizes
// are handed out in slabs. Invariant: the pages in use are disjoint, and the bytes of all accounts
// add up to `bytesInUse`. Not thread-safe: pages come and go between kernel launches only.

#pragma once

#include "runtime/Status.h"

#include <cstdint>
#include <memory>
#include <vector>

namespace kvcache::rt {

class Arena {
public:
  /// What one owner holds.
  struct Account {
    int64_t bytes = 0; ///< bytes of the pages held, as they take up memory
    int64_t pages = 0;
  };

  /// Reserves addresses, no memory: up to `maxBytes`, less where the system allows less.
  /// Unavailable when it allows nothing.
  static StatusOr<std::unique_ptr<Arena>> create(int64_t maxBytes = int64_t(64) << 30);
  ~Arena();
  Arena(const Arena &) = delete;
  Arena &operator=(const Arena &) = delete;

  /// Start of the range; page offsets count from here. 4096-byte aligned.
  char *base() const { return base_; }
  /// Addresses reserved.
  int64_t capacity() const { return capacity_; }

  /// What a page of `pageBytes` bytes takes up: rounded up to its alignment.
  static int64_t pageFootprint(int64_t pageBytes);
  /// The number of the size class of pages of `pageBytes` bytes, made at the first call.
  /// `pageBytes` > 0.
  int32_t sizeClass(int64_t pageBytes);
  /// A page of the class, 64-byte aligned and all zero, charged to `account`. Unavailable when
  /// memory is out.
  Status allocate(int32_t sizeClass, Account &account, int64_t &offset);
  /// Gives a page back; a slab without pages in use goes back to the system, but for one of each
  /// class.
  void release(int32_t sizeClass, Account &account, int64_t offset);

  /// Bytes of the pages in use.
  int64_t bytesInUse() const { return bytesInUse_; }
  /// Bytes of the slabs that may hold memory.
  int64_t bytesCommitted() const { return bytesCommitted_; }

private:
  struct Slab {
    int64_t offset = 0, bytes = 0;
    int32_t sizeClass = -1; ///< -1: back with the system
    int32_t pagesInUse = 0;
    int32_t pagesTouched = 0;   ///< pages below this number may hold old data
    int32_t position = -1;      ///< in SizeClass::open, -1 when full
    std::vector<int32_t> freed; ///< page numbers given back
  };
  struct SizeClass {
    int64_t pageBytes = 0, slabBytes = 0;
    int32_t pagesPerSlab = 0;
    std::vector<int32_t> open; ///< slabs with a free page
    int32_t spare = -1;        ///< an empty slab kept against thrashing; in `open` too
  };

  Arena() = default;
  Status openSlab(int32_t sizeClass);
  Status commit(int64_t end);
  void closeSlab(int32_t slab);
  void addOpen(SizeClass &owner, int32_t slab);
  void removeOpen(SizeClass &owner, int32_t slab);

  char *base_ = nullptr;
  int64_t capacity_ = 0;
  int64_t top_ = 0;      ///< addresses below belong to slabs
  int64_t writable_ = 0; ///< addresses below may be written
  int64_t bytesInUse_ = 0, bytesCommitted_ = 0;
  std::vector<SizeClass> classes_;
  std::vector<Slab> slabs_;
  std::vector<int32_t> returned_;   ///< slabs back with the system, addresses to use again
  std::vector<int32_t> slabOfUnit_; ///< slab that covers each unit of `slabUnit` bytes
};

} // namespace kvcache::rt
