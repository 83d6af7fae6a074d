package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/state"
	"github.com/cove-engine/cove/internal/state/statetest"
)

func again(path string, timeout time.Duration) state.Store {
	return state.In(Open(path, timeout), state.Present(), nil)
}

func TestMain(m *testing.M) {
	statetest.Child(again)
	os.Exit(m.Run())
}

var backend = statetest.Backend{
	Open:  func(t testing.TB) state.Store { return again(filepath.Join(t.TempDir(), "state.db"), 0) },
	Again: again,
	With:  func(path string, l state.Layout) state.Store { return state.In(Open(path, time.Second), l, nil) },
}

func TestSuite(t *testing.T) { statetest.Run(t, backend) }

// tall makes a file whose trees have branches.
func tall(t testing.TB, records int) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	for from := 0; from < records; from += records / 3 { // several: there are free pages then
		err := again(path, 0).Update(func(tx state.Tx) error {
			for i := from; i < from+records/3; i++ {
				id := fmt.Sprintf("%064x", i*7919)
				c := cove.Container{ID: id, Name: fmt.Sprint("n", id)}
				if err := errors.Join(tx.Put(state.Containers, id, c), tx.Claim(state.Containers, c.Name, id)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// mend gives the newest meta page its checksum, so that damage in it is met.
func mend(raw []byte) {
	page := os.Getpagesize()
	for _, at := range []int{0, page} {
		sum := fnv.New64a()
		sum.Write(raw[at+metaStart : at+metaSum])
		binary.NativeEndian.PutUint64(raw[at+metaSum:], sum.Sum64())
	}
}

// bend changes a field of a page's header or of one of its first elements to
// what could stand there: a number of another page, a place, a small number.
func bend(raw []byte, r *rand.Rand) {
	page := os.Getpagesize()
	pages := len(raw) / page
	at := r.IntN(pages) * page
	n := binary.NativeEndian
	small := []uint64{0, 1, 2, 3, uint64(r.IntN(pages)), uint64(r.IntN(page)), uint64(r.IntN(1 << 16)), r.Uint64()}
	value := small[r.IntN(len(small))]
	switch r.IntN(6) {
	case 0:
		n.PutUint64(raw[at:], value)
	case 1:
		n.PutUint16(raw[at+8:], uint16(value))
	case 2:
		n.PutUint16(raw[at+10:], uint16(value))
	case 3:
		n.PutUint32(raw[at+12:], uint32(value))
	case 4: // a child
		n.PutUint64(raw[at+pageHead+elemSize*r.IntN(8)+8:], value)
	case 5:
		n.PutUint32(raw[at+pageHead+4*r.IntN(40):], uint32(value))
	}
}

// TestDamagedPages: pages that lead in circles, to each other's middle or to
// nowhere, which bbolt would follow for ever.
func TestDamagedPages(t *testing.T) {
	good := tall(t, 600)
	path := filepath.Join(statetest.InMemory(t), "state.db")
	if err := statetest.TryDamaged(t, backend, path, good); err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	const rounds = 300
	found := 0
	for range rounds {
		raw := bytes.Clone(good)
		for range 1 + r.IntN(3) {
			bend(raw, r)
		}
		mend(raw)
		if statetest.TryDamaged(t, backend, path, raw) != nil {
			found++
		}
	}
	t.Logf("%d of %d damages were noticed", found, rounds)
	if found < rounds/4 {
		t.Errorf("only %d of %d damages were noticed", found, rounds)
	}
}

// A commit that fails at its last sync has written its meta page.
func TestCommitTakenBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	put := func(id string) error {
		return again(path, 0).Update(func(tx state.Tx) error { return tx.Put(state.Volumes, id, cove.Volume{Name: id}) })
	}
	has := func(id string) bool {
		err := again(path, 0).View(func(tx state.Tx) error { return tx.Get(state.Volumes, id, new(cove.Volume)) })
		if err != nil && !cove.Is(err, cove.NotFound) {
			t.Fatal(err)
		}
		return err == nil
	}
	for round := range 6 { // either meta page, and a file that had one taken back before
		kept, lost := fmt.Sprint("kept", round), fmt.Sprint("lost", round)
		if err := put(kept); err != nil {
			t.Fatal(err)
		}
		if round%3 == 2 {
			continue
		}
		if err := put(lost); err != nil {
			t.Fatal(err)
		}
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		h := &handle{path: path, file: file}
		if err := h.open(true); err != nil {
			t.Fatal(err)
		}
		last := uint64(h.tx.ID()) - 1
		if err := h.takeBack(last + 1); err != nil { // has not got so far
			t.Fatal(err)
		}
		if err := errors.Join(h.takeBack(last), h.close()); err != nil {
			t.Fatal(err)
		}
		if !has(kept) || has(lost) {
			t.Errorf("round %d: what was committed before is there: %v; what was taken back is: %v", round, has(kept), has(lost))
		}
	}
}

// TestCircle: each branch leads to itself and to any other page.
func TestCircle(t *testing.T) {
	good := tall(t, 600)
	page := os.Getpagesize()
	path := filepath.Join(statetest.InMemory(t), "state.db")
	branches := 0
	for at := 2 * page; at < len(good); at += page {
		if binary.NativeEndian.Uint16(good[at+8:]) != branchPage || int(binary.NativeEndian.Uint64(good[at:])) != at/page {
			continue
		}
		branches++
		for _, to := range []int{at / page, 0, 2, 3, rand.IntN(len(good) / page), rand.IntN(len(good) / page), len(good) / page} {
			raw := bytes.Clone(good)
			binary.NativeEndian.PutUint64(raw[at+pageHead+8:], uint64(to))
			_ = statetest.TryDamaged(t, backend, path, raw)
		}
	}
	if branches == 0 {
		t.Error("the file has no branch")
	}
}

// FuzzFile bends and cuts a file as the fuzzer says.
func FuzzFile(f *testing.F) {
	good := tall(f, 24)
	path := filepath.Join(statetest.InMemory(f), "state.db")
	for which := range byte(5) {
		f.Add(which, []byte{0, 0, 0, 0})
	}
	f.Fuzz(func(t *testing.T, which byte, edits []byte) {
		raw := bytes.Clone(good)
		for ; len(edits) >= 4; edits = edits[4:] {
			at := (int(binary.BigEndian.Uint16(edits)) % (len(raw) / 64)) * 64
			raw[at+int(edits[2])%64] = edits[3]
		}
		mend(raw)
		statetest.TryDamagedOnce(t, backend, path, raw, which)
	})
}

// TestViewsTogether: views run beside each other, an update alone, also within
// one process.
func TestViewsTogether(t *testing.T) {
	s := again(filepath.Join(t.TempDir(), "state.db"), time.Second)
	if err := s.Update(func(state.Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	err := s.View(func(state.Tx) error { return s.View(func(state.Tx) error { return nil }) })
	if err != nil {
		t.Error(err)
	}
	err = s.Update(func(state.Tx) error { return s.Update(func(state.Tx) error { return nil }) })
	if !cove.Is(err, cove.Unavailable) {
		t.Errorf("an update inside an update: %v", err)
	}
}

func benchStore(b *testing.B, n int) state.Store {
	s := again(filepath.Join(b.TempDir(), "state.db"), 0)
	err := s.Update(func(tx state.Tx) error {
		for i := range n {
			c := cove.Container{ID: fmt.Sprintf("%064x", i*7919), CommandLine: []string{strings.Repeat("x", 2000)}}
			if err := tx.Put(state.Containers, c.ID, c); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{0, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := benchStore(b, n)
			i := 0
			for b.Loop() {
				i++
				c := cove.Container{ID: fmt.Sprintf("f%063x", i%100)}
				if err := s.Update(func(tx state.Tx) error { return tx.Put(state.Containers, c.ID, c) }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkView(b *testing.B) {
	for _, n := range []int{0, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := benchStore(b, n)
			for b.Loop() {
				err := s.View(func(tx state.Tx) error { _, err := tx.Meta("k"); return err })
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkList(b *testing.B) {
	s := benchStore(b, 10000)
	for b.Loop() {
		err := s.View(func(tx state.Tx) error {
			return tx.List(state.Containers, func(string, []byte) error { return nil })
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
