package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cove-engine/cove"
)

var base = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

// k8s and docker write one record of each kind of file.
func k8s(i int, stream, tag, text string) string {
	return base.Add(time.Duration(i)*time.Second).Format("2006-01-02T15:04:05.000000000-07:00") + " " + stream + " " + tag + " " + text + "\n"
}

func docker(i int, stream, tag, text string) string {
	if tag == "F" {
		text += "\n"
	}
	raw, err := json.Marshal(map[string]any{"log": text, "stream": stream, "time": base.Add(time.Duration(i) * time.Second)})
	if err != nil {
		panic(err)
	}
	return string(raw) + "\n"
}

// formats are the drivers with their writers.
var formats = map[string]func(int, string, string, string) string{K8sFile: k8s, JSONFile: docker}

func read(t testing.TB, o Options) (got []string) {
	t.Helper()
	err := Read(context.Background(), o, func(l Line) error {
		s := l.Stream[3:] + ":" + string(l.Text)
		if l.Partial {
			s += "…"
		}
		got = append(got, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func put(t testing.TB, path string, parts ...string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, strings.Join(parts, "")); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRead(t *testing.T) {
	for driver, rec := range formats {
		t.Run(driver, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ctr.log")
			put(t, path+".2", rec(0, "stdout", "F", "zero"), rec(1, "stderr", "F", "one"))
			put(t, path+".1", rec(2, "stdout", "P", "t"), rec(3, "stderr", "F", "between"), rec(4, "stdout", "P", "w"))
			put(t, path, rec(5, "stdout", "F", "o"), "rubbish\n\n", rec(6, "stdout", "F", ""), rec(7, "stderr", "F", "a  b "), rec(8, "stdout", "P", "end"), `{"torn`)
			all := []string{"out:zero", "err:one", "err:between", "out:two", "out:", "err:a  b ", "out:end…"}
			for _, c := range []struct {
				o    Options
				want []string
			}{
				{Options{Tail: -1}, all},
				{Options{Tail: 100}, all},
				{Options{Tail: 0}, nil},
				{Options{Tail: 1}, all[6:]},
				{Options{Tail: 2}, all[5:]},
				{Options{Tail: 3}, all[4:]},
				{Options{Tail: -1, Since: base.Add(3 * time.Second), Until: base.Add(6 * time.Second)}, []string{"err:between", "out:"}},
				{Options{Tail: 2, Since: base.Add(8 * time.Second)}, all[6:]},
			} {
				c.o.Path, c.o.Driver = path, driver
				if got := read(t, c.o); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", c.want) {
					t.Errorf("%+v:\ngot  %q\nwant %q", c.o, got, c.want)
				}
			}
		})
	}
}

// TestTail compares every tail of long logs, over files and block borders,
// with the end of the whole.
func TestTail(t *testing.T) {
	for driver, rec := range formats {
		path := filepath.Join(t.TempDir(), "ctr.log")
		for _, name := range []string{path + ".2", path + ".1", path} {
			var all []string
			for i := range 700 {
				all = append(all, rec(i, "stdout", "F", fmt.Sprintf(`%d \n" %s`, i, strings.Repeat("y", rand.IntN(500)))))
				if i%50 == 0 {
					all = append(all, rec(i, "stdout", "P", "part "))
				}
			}
			put(t, name, append(all, rec(700, "stdout", "F", `ends in \n`))...)
		}
		all := read(t, Options{Path: path, Driver: driver, Tail: -1})
		if len(all) != 3*701 {
			t.Fatalf("%s: %d lines", driver, len(all))
		}
		for _, n := range []int{1, 2, 10, 50, 51, 300, 699, 700, 701, 702, 1000, 1402, 1403, 2102, 2103, 5000} {
			got := read(t, Options{Path: path, Driver: driver, Tail: n})
			if want := all[len(all)-min(n, len(all)):]; fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: tail %d gave %d lines, first %.40q want %.40q", driver, n, len(got), got[0], want[0])
			}
		}
	}
}

// The beginning of a line that was written byte by byte is looked for without a call
// of the kernel for each of them.
func TestTailOfParts(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for driver, rec := range formats {
		path := filepath.Join(t.TempDir(), "ctr.log")
		const parts = 20_000
		put(t, path, rec(0, "stdout", "F", "before"), strings.Repeat(rec(1, "stdout", "P", "x"), parts))
		before := reads(t)
		if got := read(t, Options{Path: path, Driver: driver, Tail: 1}); len(got) != 1 || len(got[0]) != len("out:…")+parts {
			t.Errorf("%s: %d lines, %.20q", driver, len(got), got)
		}
		if n := reads(t) - before; n > parts/50 {
			t.Errorf("%s: %d calls to read %d records", driver, n, parts)
		}
	}
}

// reads are the calls of read(2) and its like by this thread, proc_pid_io(5).
func reads(t *testing.T) (n int) {
	text, err := os.ReadFile("/proc/thread-self/io")
	if err == nil {
		_, after, _ := strings.Cut(string(text), "syscr: ")
		_, err = fmt.Sscan(after, &n)
	}
	if err != nil {
		t.Skip(err)
	}
	return n
}

func TestFollow(t *testing.T) {
	for driver, rec := range formats {
		t.Run(driver, func(t *testing.T) {
			const total = 3000
			path := filepath.Join(t.TempDir(), "ctr.log")
			var done atomic.Bool
			var writer sync.WaitGroup
			defer writer.Wait()
			writer.Go(func() {
				for i := range total {
					put(t, path, rec(i, "stdout", "P", "n"), rec(i, "stdout", "F", fmt.Sprint(i)))
					if i%500 == 499 { // rotate
						for k := total / 500; k > 0; k-- { // all are kept, however late they are read
							_ = os.Rename(fmt.Sprintf("%s.%d", path, k), fmt.Sprintf("%s.%d", path, k+1))
						}
						if err := os.Rename(path, path+".1"); err != nil {
							t.Error(err)
						}
						time.Sleep(time.Millisecond)
					}
				}
				put(t, path, rec(0, "stderr", "F", "last"))
				done.Store(true)
			})
			ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
			defer cancel()
			n := 0
			last := ""
			err := Read(ctx, Options{Path: path, Driver: driver, Tail: -1, Follow: true, Done: done.Load}, func(l Line) error {
				if want := fmt.Sprintf("n%d", n); l.Stream == "stdout" && string(l.Text) != want {
					return fmt.Errorf("got %s, want %s", l.Text, want)
				}
				n, last = n+1, string(l.Text)
				return nil
			})
			if err != nil || n != total+1 || last != "last" {
				t.Errorf("%d lines, the last %q: %v", n, last, err)
			}
		})
	}
}

// TestRotatedMeanwhile: what was rotated before the reader came to look is not
// passed over, and the place that is empty while the files move up hides none.
func TestRotatedMeanwhile(t *testing.T) {
	for driver, rec := range formats {
		path := filepath.Join(t.TempDir(), "ctr.log")
		line := func(i int) string { return rec(i, "stdout", "F", fmt.Sprint(i)) }
		var got []string
		written := false
		err := Read(context.Background(), Options{Path: path, Driver: driver, Tail: -1, Follow: true, Done: func() bool { return written }, Idle: func() error {
			if !written { // nothing was there yet
				put(t, path+".2", line(0))
				put(t, path+".1", line(1))
				put(t, path, line(2))
			}
			written = true
			return nil
		}}, func(l Line) error { got = append(got, string(l.Text)); return nil })
		if err != nil || fmt.Sprint(got) != "[0 1 2]" {
			t.Errorf("%s: rotated before the first look: %v, %v", driver, got, err)
		}
		for k := 0; k <= 2; k++ {
			hole, away := fmt.Sprintf("%s.%d", path, k), path+".away"
			if k == 0 {
				hole = path
			}
			if err := os.Rename(hole, away); err != nil {
				t.Fatal(err)
			}
			var want []string
			for i := range 3 {
				if i != 2-k {
					want = append(want, fmt.Sprint("out:", i))
				}
			}
			for _, tail := range []int{-1, 2, 5} {
				if got := read(t, Options{Path: path, Driver: driver, Tail: tail}); !slices.Equal(got, want) {
					t.Errorf("%s: without place %d, tail %d: %q, want %q", driver, k, tail, got, want)
				}
			}
			if got := read(t, Options{Path: path, Driver: driver, Tail: 1}); !slices.Equal(got, want[1:]) {
				t.Errorf("%s: without place %d, tail 1: %q, want %q", driver, k, got, want[1:])
			}
			if err := os.Rename(away, hole); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestFollowEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ctr.log")
	put(t, path, k8s(0, "stdout", "F", "a"))
	ctx, cancel := context.WithCancel(context.Background())
	n := 0
	count := func(Line) error { n++; return nil }
	end := func() error { cancel(); return nil }
	if err := Read(ctx, Options{Path: path, Driver: K8sFile, Tail: -1, Follow: true, Idle: end}, count); err != nil || n != 1 {
		t.Errorf("ctx ended: %d, %v", n, err)
	}
	if err := Read(context.Background(), Options{Path: path, Driver: K8sFile, Tail: -1, Follow: true, Until: time.Now().Add(50 * time.Millisecond)}, count); err != nil || n != 2 {
		t.Errorf("until came: %d, %v", n, err)
	}
	if err := Read(context.Background(), Options{Path: path, Driver: K8sFile, Tail: -1, Follow: true, Until: time.Now()}, count); err != nil || n != 3 {
		t.Errorf("until came before the reading: %d, %v", n, err)
	}
	stop := errors.New("stop")
	if err := Read(context.Background(), Options{Path: path, Driver: K8sFile, Tail: -1, Follow: true}, func(Line) error { return stop }); err != stop {
		t.Errorf("each's error: %v", err)
	}
	// Emptied in place, and written anew when that was seen.
	written := false
	var got []string
	idle := func() error {
		switch info, err := os.Stat(path); {
		case err != nil:
			return err
		case info.Size() > 0:
			return os.Truncate(path, 0)
		}
		put(t, path, k8s(0, "stdout", "F", "b"))
		written = true
		return nil
	}
	err := Read(context.Background(), Options{Path: path, Driver: K8sFile, Tail: -1, Follow: true, Done: func() bool { return written }, Idle: idle}, func(l Line) error {
		got = append(got, string(l.Text))
		return nil
	})
	if err != nil || fmt.Sprint(got) != "[a b]" {
		t.Errorf("emptied in place: %v, %v", got, err)
	}
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	none := func(Line) error { return nil }
	for _, tail := range []int{-1, 0, 5} {
		if err := Read(context.Background(), Options{Path: dir + "/none", Driver: K8sFile, Tail: tail}, none); !cove.Is(err, cove.NoFile) {
			t.Errorf("no file: %v", err)
		}
	}
	if err := Read(context.Background(), Options{Path: dir, Driver: "syslog"}, none); !cove.Is(err, cove.Unsupported) {
		t.Errorf("journald: %v", err)
	}
	if err := os.Symlink("/etc/passwd", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	if err := Read(context.Background(), Options{Path: dir + "/link", Driver: K8sFile}, none); err == nil {
		t.Error("a symbolic link was followed")
	}
}

// TestHugeLine: a line of 256 MiB passes in parts and stays out of memory, as
// one record and as many.
func TestHugeLine(t *testing.T) {
	const size = 256 << 20
	dir := t.TempDir()
	for name, write := range map[string]func(io.Writer){
		K8sFile: func(w io.Writer) {
			io.WriteString(w, strings.TrimSuffix(k8s(0, "stdout", "F", ""), "\n"))
			io.CopyN(w, endless{}, size)
			io.WriteString(w, "\n"+k8s(1, "stdout", "F", "after"))
		},
		K8sFile + " parts": func(w io.Writer) {
			part := k8s(0, "stdout", "P", strings.Repeat("x", 8<<10))
			for range size / (8 << 10) {
				io.WriteString(w, part)
			}
			io.WriteString(w, k8s(1, "stdout", "F", "")+k8s(1, "stdout", "F", "after"))
		},
		JSONFile: func(w io.Writer) {
			io.WriteString(w, `{"log":"`)
			io.CopyN(w, endless{}, size)
			io.WriteString(w, `\n","stream":"stdout","time":"2026-01-02T03:04:05Z"}`+"\n"+docker(1, "stdout", "F", "after"))
		},
	} {
		path := filepath.Join(dir, "log")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		write(f)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		driver, _, _ := strings.Cut(name, " ")
		var bytes int
		var last string
		var most uint64
		err = Read(context.Background(), Options{Path: path, Driver: driver, Tail: -1}, func(l Line) error {
			bytes += len(l.Text)
			last = string(l.Text[:min(10, len(l.Text))])
			if bytes%(32<<20) < MaxLine {
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapAlloc)
			}
			return nil
		})
		if err != nil || last != "after" {
			t.Errorf("%s: the last line is %q, %v", name, last, err)
		}
		if want := size + 5; driver == K8sFile && bytes != want {
			t.Errorf("%s: %d bytes, want %d", name, bytes, want)
		}
		if most > 32<<20 {
			t.Errorf("%s: %d bytes of heap", name, most)
		}
		if got := read(t, Options{Path: path, Driver: driver, Tail: 1}); fmt.Sprint(got) != "[out:after]" {
			t.Errorf("%s: tail gave %d lines", name, len(got))
		}
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

func FuzzRecords(f *testing.F) {
	f.Add([]byte(k8s(0, "stdout", "F", "a")+k8s(0, "stderr", "P:x", "b")), 3)
	f.Add([]byte(docker(0, "stdout", "F", "a")+docker(0, "stderr", "P", "b")), 7)
	f.Add([]byte("2026 stdout F\n\n  \n{}\n{\"log\":null}\n"), 1)
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		for _, d := range []struct {
			decode decoder
			json   bool
		}{{decodeK8s, false}, {decodeJSON, true}} {
			run := func(step int) string {
				var out bytes.Buffer
				j := joiner{each: func(l Line) error {
					if len(l.Text) > MaxLine || l.Stream != "stdout" && l.Stream != "stderr" || l.Time.IsZero() && d.json {
						t.Errorf("bad line %+v", l)
					}
					fmt.Fprintf(&out, "%v %s %q %v\n", l.Time, l.Stream, l.Text, l.Partial)
					return nil
				}}
				r := records{decode: d.decode, json: d.json, each: j.add}
				for b := data; len(b) > 0; {
					n := min(step, len(b))
					if err := r.write(b[:n]); err != nil {
						t.Fatal(err)
					}
					b = b[n:]
				}
				if err := j.flush(); err != nil {
					t.Fatal(err)
				}
				return out.String()
			}
			// However the bytes arrive, the lines are the same.
			if a, b := run(max(len(data), 1)), run(max(1, cut&0xff)); a != b {
				t.Errorf("at once:\n%s\nin pieces:\n%s", a, b)
			}
		}
	})
}

func BenchmarkRead(b *testing.B) {
	path := filepath.Join(b.TempDir(), "ctr.log")
	var s strings.Builder
	for i := range 100000 {
		s.WriteString(k8s(i, "stdout", "F", strings.Repeat("x", 80)))
	}
	put(b, path, s.String())
	b.SetBytes(int64(s.Len()))
	for b.Loop() {
		if err := Read(context.Background(), Options{Path: path, Driver: K8sFile, Tail: -1}, func(Line) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

func TestLastLines(t *testing.T) {
	for want, expect := range map[int]string{0: "", 1: "d", 2: "bc d", 3: "a bc d", 9: "a bc d"} {
		l := lastLines{left: want}
		got := ""
		for _, text := range []string{"d", "c", "b+", "a"} { // the newest first
			part, more := strings.CutSuffix(text, "+")
			if l.before(record{more: more}) {
				break
			}
			if !more {
				part += " "
			}
			got = part + got
		}
		if strings.TrimSpace(got) != expect {
			t.Errorf("the last %d: %q, want %q", want, got, expect)
		}
	}
	l := lastLines{left: 1}
	if l.before(record{more: true}) || !l.before(record{}) {
		t.Error("a newest line that goes on is not the last")
	}
}

// Who does not follow sees what there is, however fast more is written, and if
// the log is rotated meanwhile.
func TestNoEndOfWriting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ctr.log")
	n := 0
	write := func() {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err == nil {
			_, err = f.WriteString(k8s(n, "stdout", "F", strconv.Itoa(n)))
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	for _, tail := range []int{-1, 2} {
		write()
		write()
		var got []string
		first := n - 2
		err := Read(context.Background(), Options{Path: path, Driver: K8sFile, Tail: tail}, func(l Line) error {
			got = append(got, string(l.Text))
			if len(got) == 1 && tail < 0 {
				if err := os.Rename(path, path+".1"); err != nil {
					t.Fatal(err)
				}
			}
			write()
			if len(got) > 100 {
				return errors.New("it does not end")
			}
			return nil
		})
		if want := []string{strconv.Itoa(first), strconv.Itoa(first + 1)}; err != nil || !slices.Equal(got, want) {
			t.Errorf("tail %d: %v, not %v: %v", tail, got, want, err)
		}
	}
}
