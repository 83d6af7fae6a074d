package statetest

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Recording is what a program has done to the files of one folder, in order.
type Recording struct {
	steps []step
	// first is what was there before, by name.
	first map[string][]byte
}

// step is one system call that has succeeded.
type step struct {
	call string // write, size, sync, link, unlink, told
	file int    // of write, size, sync, link; 0 is the folder
	name string // of link and unlink
	data []byte // of write and told
	at   int64  // of write; the size of size
}

var straceLine = regexp.MustCompile(`^(\d+) +(?:<\.\.\. )?(\w+)(?:\((.*)| resumed>(.*))$`)

// Record runs c, which works on the files of dir, under strace.
func Record(t testing.TB, c *exec.Cmd, dir string) *Recording {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil || exec.Command(strace, "-o", "/dev/null", "true").Run() != nil {
		t.Skip("strace is not installed or cannot trace here")
	}
	r := &Recording{first: map[string][]byte{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		r.first[e.Name()] = []byte(contents(t, filepath.Join(dir, e.Name())))
	}
	log := filepath.Join(t.TempDir(), "calls")
	c.Args = append([]string{strace, "-f", "-xx", "-s", "10000000", "-o", log, "-e",
		"trace=openat,close,write,pwrite64,ftruncate,fallocate,fdatasync,fsync,linkat,unlinkat,renameat,renameat2,sync_file_range,copy_file_range,msync", c.Path}, c.Args[1:]...)
	c.Path = strace
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	if err := r.parse(log, dir); err != nil {
		t.Fatal(err)
	}
	return r
}

// parse reads strace's log. A call counts where it returned.
func (r *Recording) parse(log, dir string) error {
	f, err := os.Open(log)
	if err != nil {
		return err
	}
	defer f.Close()
	names, files := map[string]int{}, 0 // 0 is the folder
	for _, name := range slices.Sorted(maps.Keys(r.first)) {
		files++
		names[name] = files
	}
	fds := map[string]int{}
	begun := map[string]string{} // by thread
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		m := straceLine.FindStringSubmatch(lines.Text())
		if m == nil {
			continue // a signal, an end
		}
		thread, call, args := m[1], m[2], m[3]+m[4]
		if before, ok := strings.CutSuffix(args, " <unfinished ...>"); ok {
			begun[thread] = before
			continue
		}
		if m[3] == "" {
			args = begun[thread] + args
		}
		i := strings.LastIndex(args, ") ")
		if i < 0 {
			return fmt.Errorf("strange line %.200q", lines.Text())
		}
		result := strings.TrimSpace(strings.TrimLeft(args[i+1:], " ="))
		if strings.HasPrefix(result, "-1") {
			continue
		}
		a := strings.Split(args[:i], ", ")
		file, known := fds[a[0]]
		number := func(i int) int64 { n, _ := strconv.ParseInt(a[i], 0, 64); return n }
		inside := func(i int) (string, bool) {
			path := string(text(a[i]))
			return filepath.Base(path), filepath.Dir(path) == dir
		}
		switch call {
		case "openat":
			name, ok := inside(1)
			path := string(text(a[1]))
			switch {
			case strings.Contains(a[2], "O_TMPFILE"):
				files++
				fds[result] = files
			case path == dir:
				fds[result] = 0
			case !ok:
				delete(fds, result)
			default:
				if _, there := names[name]; !there {
					files++
					names[name] = files
					r.steps = append(r.steps, step{call: "link", file: files, name: name})
				}
				fds[result] = names[name]
			}
		case "close":
			delete(fds, a[0])
		case "write":
			if a[0] == "1" {
				r.steps = append(r.steps, step{call: "told", data: text(a[1])})
			} else if known {
				return fmt.Errorf("a write without a place in file %d", file)
			}
		case "pwrite64":
			if known {
				r.steps = append(r.steps, step{call: "write", file: file, data: text(a[1]), at: number(3)})
			}
		case "ftruncate":
			if known {
				r.steps = append(r.steps, step{call: "size", file: file, at: number(1)})
			}
		case "fallocate":
			if known && a[1] != "0" {
				return fmt.Errorf("fallocate %s is not understood", args)
			}
			// Mode 0 within the size changes nothing that is read.
		case "fdatasync", "fsync":
			if known {
				r.steps = append(r.steps, step{call: "sync", file: file})
			}
		case "linkat":
			if name, ok := inside(3); ok {
				fd := filepath.Base(string(text(a[1]))) // /proc/self/fd/N
				names[name] = fds[fd]
				r.steps = append(r.steps, step{call: "link", file: fds[fd], name: name})
			}
		case "unlinkat":
			if name, ok := inside(1); ok {
				delete(names, name)
				r.steps = append(r.steps, step{call: "unlink", name: name})
			}
		default:
			return fmt.Errorf("%s is not understood", call)
		}
	}
	return lines.Err()
}

// text decodes a string of strace's.
func text(quoted string) []byte {
	s := strings.Trim(quoted, `"`)
	out := make([]byte, 0, len(s)/4)
	for ; len(s) >= 4; s = s[4:] {
		b, _ := strconv.ParseUint(s[2:4], 16, 8)
		out = append(out, byte(b))
	}
	return out
}

// Len is the number of moments between which the power can fail.
func (r *Recording) Len() int { return len(r.steps) + 1 }

// Told is what the program had written to its output by a moment.
func (r *Recording) Told(moment int) (text []byte) {
	for _, s := range r.steps[:moment] {
		if s.call == "told" {
			text = append(text, s.data...)
		}
	}
	return text
}

// Crash writes into dir what a disk could hold if the power failed at a moment:
// what was synced, and of the rest what chance says, whole or by sectors.
func (r *Recording) Crash(t testing.TB, moment int, chance *rand.Rand, dir string) {
	t.Helper()
	steps := r.steps[:moment]
	synced := map[int]int{} // a file's last sync
	for i, s := range steps {
		if s.call == "sync" {
			synced[s.file] = i
		}
	}
	// Of what was not synced: nothing, all, or each by itself.
	mood := chance.IntN(4)
	survives := func(i, file int) bool {
		last, ok := synced[file]
		return ok && i < last || mood == 1 || mood > 1 && chance.IntN(2) == 0
	}
	data := map[int][]byte{}
	names := map[string]int{}
	for i, name := range slices.Sorted(maps.Keys(r.first)) {
		names[name] = i + 1
		data[i+1] = bytes.Clone(r.first[name])
	}
	put := func(file int, at int64, b []byte) {
		if need := int(at) + len(b); need > len(data[file]) {
			data[file] = append(data[file], make([]byte, need-len(data[file]))...)
		}
		copy(data[file][at:], b)
	}
	const sector = 512
	for i, s := range steps {
		switch s.call {
		case "write":
			if survives(i, s.file) {
				put(s.file, s.at, s.data)
			} else if mood == 3 { // torn
				for at := 0; at < len(s.data); at += sector {
					if chance.IntN(2) == 0 {
						put(s.file, s.at+int64(at), s.data[at:min(at+sector, len(s.data))])
					}
				}
			}
		case "size":
			if survives(i, s.file) {
				d := data[s.file]
				data[s.file] = append(d, make([]byte, max(0, int(s.at)-len(d)))...)[:s.at]
			}
		case "link":
			if survives(i, 0) {
				names[s.name] = s.file
			}
		case "unlink":
			if survives(i, 0) {
				delete(names, s.name)
			}
		}
	}
	old, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range old {
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	for name, file := range names {
		if err := os.WriteFile(filepath.Join(dir, name), data[file], 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Moments calls each with moments to fail at: all of them where there are few,
// else as many as chance draws.
func (r *Recording) Moments(t testing.TB, each func(moment int, chance *rand.Rand)) {
	seed := rand.Uint64()
	t.Logf("seed %d, %d steps", seed, len(r.steps))
	chance := rand.New(rand.NewPCG(seed, 0))
	n := 400
	if testing.Short() {
		n = 80
	}
	for range n {
		each(chance.IntN(r.Len()), chance)
	}
}

// testPowerLoss lets the power fail at any moment of a few transactions,
// beginning with the very first: what was told is there, nothing by half, and
// the store goes on.
func testPowerLoss(t *testing.T, b Backend) {
	from := t.TempDir()
	c := child(t, "grow=8", filepath.Join(from, "state"))
	r := Record(t, c, from)
	if told := string(r.Told(r.Len() - 1)); told != "1\n2\n3\n4\n5\n6\n7\n8\n" {
		t.Fatalf("the child told %q", told)
	}
	dir := InMemory(t)
	r.Moments(t, func(moment int, chance *rand.Rand) {
		r.Crash(t, moment, chance, dir)
		told := uint64(bytes.Count(r.Told(moment), []byte("\n")))
		s := b.Again(filepath.Join(dir, "state"), time.Minute)
		got := Whole(t, s)
		if got < told || got > told+1 {
			t.Errorf("power lost after step %d: %d objects, %d told", moment, got, told)
		}
		if n, err := Grow(s); err != nil || n != got+1 {
			t.Errorf("power lost after step %d: then %d, %v", moment, n, err)
		}
		if t.Failed() {
			t.FailNow()
		}
	})
}
