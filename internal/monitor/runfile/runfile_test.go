package runfile

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

func open(t *testing.T, dir string) *File {
	t.Helper()
	f, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

func generation(t *testing.T, dir string) uint64 {
	t.Helper()
	run, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	return run.Generation
}

// What the runtime says of a panic stands behind the slots, is given as a line
// and harms no record.
func TestLastWords(t *testing.T) {
	if dir := os.Getenv("RUNFILE_PANIC"); dir != "" {
		f := open(t, dir)
		if err := f.TakeLastWords(); err != nil {
			t.Fatal(err)
		}
		go func() { panic("out of luck") }()
		select {}
	}
	dir := t.TempDir()
	f := open(t, dir)
	for g := range uint64(3) {
		if err := f.Write(&cove.Run{Generation: g}, false); err != nil {
			t.Fatal(err)
		}
	}
	if words := LastWords(dir); words != "" {
		t.Errorf("words of nobody: %s", words)
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestLastWords$")
	cmd.Env = append(os.Environ(), "RUNFILE_PANIC="+dir, "GOTRACEBACK=all")
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Fatalf("it should have died: %s", out)
	}
	words := LastWords(dir)
	if !strings.HasPrefix(words, "panic: out of luck; goroutine ") || !strings.Contains(words, "runfile_test.go:") || strings.ContainsAny(words, "\n\t") ||
		strings.Count(words, "goroutine ") > 2 { // its own, and "created by"
		t.Errorf("last words: %q", words)
	}
	if generation(t, dir) != 2 {
		t.Error("the record is not the last one")
	}
	if err := f.DropLastWords(); err != nil || LastWords(dir) != "" || generation(t, dir) != 2 {
		t.Errorf("not dropped: %v, %q", err, LastWords(dir))
	}
}

func TestWriteRead(t *testing.T) {
	dir := t.TempDir()
	if _, err := Read(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	f := open(t, dir)
	if _, err := Read(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("empty: %v", err)
	}
	if err := f.Reserve(); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("reserved: %v", err)
	}
	for i := range uint64(5) {
		if err := f.Write(&cove.Run{Generation: i, ExitCode: int(i)}, i%2 == 0); err != nil {
			t.Fatal(err)
		}
		if got := generation(t, dir); got != i {
			t.Errorf("wrote %d, read %d", i, got)
		}
		if i == 2 {
			f = open(t, dir) // somebody else goes on
		}
	}
}

// A run's end is still there when the next one has begun.
func TestReadGeneration(t *testing.T) {
	f := open(t, t.TempDir())
	for _, run := range []cove.Run{{Generation: 1, PID: 7}, {Generation: 1, ExitCode: 3}, {Generation: 2, PID: 8}} {
		if err := f.Write(&run, false); err != nil {
			t.Fatal(err)
		}
	}
	if run, err := f.ReadGeneration(1); err != nil || run.ExitCode != 3 || run.PID != 0 {
		t.Errorf("%+v, %v; want exit code 3", run, err)
	}
	if run, err := f.ReadGeneration(2); err != nil || run.PID != 8 {
		t.Errorf("%+v, %v; want process 8", run, err)
	}
	if run, err := f.ReadGeneration(3); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%+v, %v; want none", run, err)
	}
}

// A write that was cut short leaves the record before.
func TestTornWrite(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir)
	for i := range uint64(3) {
		if err := f.Write(&cove.Run{Generation: i, Error: strings.Repeat("x", 200)}, false); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(filepath.Join(dir, Name))
	if err != nil {
		t.Fatal(err)
	}
	next, err := encode(&cove.Run{Generation: 3, Error: strings.Repeat("y", 300)}, 3)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(next) + 1 {
		torn := append([]byte(nil), whole...)
		for len(torn) < 2*slotSize {
			torn = append(torn, 0)
		}
		copy(torn[slotSize:], next[:n]) // record 3 goes to the second slot
		if err := os.WriteFile(filepath.Join(dir, Name), torn, 0o600); err != nil {
			t.Fatal(err)
		}
		want := uint64(2)
		if n == len(next) {
			want = 3
		}
		if got := generation(t, dir); got != want {
			t.Fatalf("%d of %d bytes written: read %d", n, len(next), got)
		}
	}
}

func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir)
	if err := f.Write(&cove.Run{Generation: 1}, false); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, Name)
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		bad := append([]byte(nil), data...)
		bad[i] ^= 4
		if err := os.WriteFile(name, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if run, err := Read(dir); err == nil {
			t.Fatalf("byte %d changed: read %+v", i, run)
		}
	}
	if err := os.WriteFile(name, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir); !errors.Is(err, ErrDamaged) {
		t.Errorf("garbage: %v", err)
	}
	if err := open(t, dir).Write(&cove.Run{Generation: 7}, false); err != nil {
		t.Fatal(err)
	}
	if got := generation(t, dir); got != 7 {
		t.Errorf("after a damaged one: %d", got)
	}
}

// What is too large gives way to what matters.
func TestLarge(t *testing.T) {
	dir := t.TempDir()
	run := cove.Run{Generation: 4, ExitCode: 3, Finished: time.Now(), Error: strings.Repeat("\x01", 40<<10), Health: &cove.Health{Status: "healthy"}}
	for range 5 {
		run.Health.Log = append(run.Health.Log, cove.HealthProbe{Output: strings.Repeat("\x02", 20<<10)})
	}
	for range 1000 {
		run.Execs = append(run.Execs, strings.Repeat("e", 64))
	}
	if err := open(t, dir).Write(&run, false); err != nil {
		t.Fatal(err)
	}
	got, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got.ExitCode != 3 || !got.Finished.Equal(run.Finished) || got.Health.Status != "healthy" || len(got.Error) == 0 {
		t.Errorf("got %+v", got)
	}
	if len(run.Health.Log) != 5 || len(run.Execs) != 1000 {
		t.Error("the caller's run was changed")
	}
}

func FuzzDecode(f *testing.F) {
	good, err := encode(&cove.Run{Generation: 2, Error: "x"}, 9)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("cove-run 1 0 0 -1\n"))
	f.Add([]byte("cove-run 2 0 0 0\n{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		seq, run, err := Decode(data)
		if err != nil {
			return
		}
		again, err := encode(run, seq)
		if err != nil {
			t.Fatal(err)
		}
		if s, _, err := Decode(again); err != nil || s != seq {
			t.Errorf("%q: read, written and not read again: %v", data, err)
		}
	})
}

// Last words are one line of bounded length, whatever a dying process has
// written.
func FuzzLastWords(f *testing.F) {
	for _, s := range []string{"panic: x\n\ngoroutine 1 [running]:\nmain.main()\n\t/x.go:7 +0x1d\n\ngoroutine 2 [idle]:\n", "\x00\x00", "goroutine \n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		file := open(t, dir)
		if _, err := unix.Pwrite(file.FD(), data, wordsAt); err != nil {
			t.Fatal(err)
		}
		if words := LastWords(dir); strings.ContainsAny(words, "\n\x00") || len(words) > 2*wordsMax {
			t.Errorf("%q", words)
		}
	})
}

// A file that has lost its name, to nothing or to something else, gets a new one that is
// locked and has the record; one that has it is written to.
func TestRenew(t *testing.T) {
	for name, hurt := range map[string]func(path string) error{
		"nothing":   func(string) error { return nil },
		"removed":   os.Remove,
		"replaced":  func(p string) error { return errors.Join(os.Remove(p), os.WriteFile(p, []byte("x"), 0o600)) },
		"directory": func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) },
		"link":      func(p string) error { return errors.Join(os.Remove(p), os.Symlink(p+".other", p)) },
		"fifo":      func(p string) error { return errors.Join(os.Remove(p), unix.Mkfifo(p, 0o600)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			f := open(t, dir)
			err := errors.Join(unix.Flock(f.FD(), unix.LOCK_EX), f.Write(&cove.Run{Generation: 1}, false), f.TakeLastWords())
			if err == nil {
				err = errors.Join(hurt(filepath.Join(dir, Name)), f.Renew(dir, &cove.Run{Generation: 2}, false))
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := generation(t, dir); got != 2 {
				t.Errorf("generation %d, want 2", got)
			}
			other, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			if err := unix.Flock(other.FD(), unix.LOCK_SH|unix.LOCK_NB); err != unix.EWOULDBLOCK {
				t.Errorf("another's lock gives %v, want %v", err, unix.EWOULDBLOCK)
			}
			if err := f.Write(&cove.Run{Generation: 3}, false); err != nil || generation(t, dir) != 3 {
				t.Errorf("the next record: %v, generation %d, want 3", err, generation(t, dir))
			}
			f.LetGo()
			if err := unix.Flock(other.FD(), unix.LOCK_SH|unix.LOCK_NB); err != nil {
				t.Errorf("after its end another's lock gives %v", err)
			}
			if _, err := os.Lstat(filepath.Join(dir, Name+".other")); err == nil {
				t.Error("it wrote through a link")
			}
		})
	}
}

// Whatever is in the file's place is put away, be something of another type there already.
func TestPutAway(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, Name)
	full := func() error { return os.MkdirAll(filepath.Join(path, "full"), 0o700) }
	for i, make := range []func() error{
		full,
		func() error { return os.Symlink("nowhere", path) },
		full,
		func() error { return unix.Mkfifo(path, 0o600) },
	} {
		_ = os.Remove(path)
		if err := make(); err != nil {
			t.Fatal(err)
		}
		f, err := Open(dir)
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		f.Close()
	}
}
