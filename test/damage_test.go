package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
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

	"golang.org/x/sys/unix"
)

// damageVar says how many damages TestDamage does: a number, 0 for all of them.
// COVE_TEST_SEED chooses which, COVE_TEST_DAMAGE_ONLY is a regular expression for
// their names.
const damageVar = "COVE_TEST_DAMAGE"

// What becomes of a file or directory. (Root may do what its mode forbids.)
var damages = map[string]func(path, precious string) error{
	"gone":  func(path, _ string) error { return nil },
	"empty": func(path, _ string) error { return os.WriteFile(path, nil, 0o600) },
	"rubbish": func(path, _ string) error {
		return os.WriteFile(path, bytes.Repeat([]byte("rubbish\x00\xff"), 9000), 0o600)
	},
	"dir":      func(path, _ string) error { return os.Mkdir(path, 0o700) },
	"fifo":     func(path, _ string) error { return unix.Mkfifo(path, 0o600) },
	"dangling": func(path, precious string) error { return os.Symlink(precious+".none", path) },
	"link":     func(path, precious string) error { return os.Symlink(precious, path) },
}

// storeWide are files whose loss takes every record, or what they are found by, away: commands may
// refuse to work until somebody has seen to it.
// A link to nothing in a directory's place is refused by name: what it leads to may come back.
var storeWide = regexp.MustCompile(`^(root/(cove|cove/state\.db|cove/containers|cove/store-id):.*|r[a-z]*/cove(/[a-z]+)?:dangling)$`)

// damageLimit is how long a command may take that has nothing to wait for but a monitor's answer
// and a stop's ten seconds.
const damageLimit = 25 * time.Second

// TestDamage replaces what cove has written, one file or directory each time, in a store with
// containers that run, have ended and were never started, and has the ordinary commands meet it. None may hang
// or panic, end what has nothing to do with it, or write through a link; and in the end all goes.
func TestDamage(t *testing.T) {
	e := underTest(t)
	if e.name != "cove" || os.Geteuid() != 0 {
		t.Skip("damages cove's own files, as root")
	}
	_ = exec.Command("ip", "link", "set", "lo", "up").Run()
	many, seed := 6, uint64(time.Now().UnixNano())
	if text := os.Getenv(damageVar); text != "" {
		many, _ = strconv.Atoi(text)
	}
	if text := os.Getenv("COVE_TEST_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	only := regexp.MustCompile(os.Getenv("COVE_TEST_DAMAGE_ONLY"))
	images := makeImages(t, filepath.Join(t.TempDir(), "images"))
	probe := newDamaged(t, e, images)
	var names []string
	for _, p := range probe.written() {
		for how := range damages {
			if name := p + ":" + how; only.MatchString(name) {
				names = append(names, name)
			}
		}
	}
	probe.end()
	slices.Sort(names)
	if many > 0 && many < len(names) {
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		names = names[:many]
	}
	t.Logf("COVE_TEST_SEED=%d, %d damages", seed, len(names))
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			place, how, _ := strings.Cut(name, ":")
			newDamaged(t, e, images).meet(place, how)
		})
	}
}

// damaged is a store to be damaged.
type damaged struct {
	t     *testing.T
	house *house
	ids   map[string]string // of the containers, by name
	alive []int             // their processes: of other, and of up
}

// newDamaged makes one: containers other, up, done and new, a volume, a network and an image.
func newDamaged(t *testing.T, e engine, images string) *damaged {
	work, err := os.MkdirTemp("", "ctd")
	if err != nil {
		t.Fatal(err)
	}
	d := &damaged{t: t, house: &house{engine: e, tb: t, work: work, seen: map[string]bool{}}, ids: map[string]string{}}
	t.Cleanup(func() {
		d.house.killAll()
		for _, m := range mountsBelow(work, "") {
			_ = unix.Unmount(m, unix.MNT_DETACH)
		}
		_ = os.RemoveAll(work)
	})
	if err := os.WriteFile(d.precious(), []byte("precious\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{
		"load -q -i " + filepath.Join(images, "bb.tar"), "network create net", "volume create vol",
		"run -d --name other -v kept:/v localhost/bb sleep 10000",
		"run -d --name up --network net -v vol:/v localhost/bb sleep 10000",
		"run --name done localhost/bb echo said", "create --name new localhost/bb true",
		"system check --repair", // writes down which store this is
	} {
		if out, err := d.within(3*time.Minute, strings.Fields(c)...); err != nil { // nothing is damaged yet
			t.Fatalf("%s: %v: %s", c, err, out)
		}
	}
	for _, name := range []string{"other", "up", "done", "new"} {
		out, err := d.call("inspect", "--format", "{{.Id}} {{.State.Pid}}", name)
		var pid int
		var id string
		if _, serr := fmt.Sscan(out, &id, &pid); err != nil || serr != nil {
			t.Fatalf("inspect %s: %v: %s", name, errors.Join(err, serr), out)
		}
		d.ids[name], d.house.seen[id] = id, true
		if pid != 0 {
			d.alive = append(d.alive, pid)
		}
	}
	return d
}

func (d *damaged) precious() string { return filepath.Join(d.house.work, "precious") }

// call runs a command of cove's. One that hangs or panics is an error of the test's.
func (d *damaged) call(args ...string) (string, error) { return d.within(damageLimit, args...) }

func (d *damaged) within(limit time.Duration, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, d.house.binary, append([]string{"--root", d.house.work + "/root", "--runroot", d.house.work + "/run"}, args...)...)
	cmd.WaitDelay = time.Second // a monitor may have its output
	if line := monitorLine(); line != "" {
		conf := d.house.work + "/containers.conf"
		_ = os.WriteFile(conf, []byte("[engine]\n"+line), 0o600)
		cmd.Env = append(os.Environ(), "CONTAINERS_CONF_OVERRIDE="+conf)
	}
	out, err := cmd.CombinedOutput()
	switch {
	case ctx.Err() != nil:
		d.t.Errorf("%s: hangs", strings.Join(args, " "))
	case bytes.Contains(out, []byte("goroutine ")) || bytes.Contains(out, []byte("panic:")):
		d.t.Errorf("%s: panics: %s", strings.Join(args, " "), out)
	case err != nil && len(out) == 0:
		d.t.Errorf("%s: %v, and no word", strings.Join(args, " "), err)
	}
	if text, err := os.ReadFile(d.precious()); string(text) != "precious\n" {
		d.t.Fatalf("%s: it wrote through a link: %q %v", strings.Join(args, " "), text, err)
	}
	return string(out), err
}

// written lists what cove has written, other than what is the image library's or the containers',
// with @NAME in the place of containers' IDs.
func (d *damaged) written() (places []string) {
	work := d.house.work
	for _, top := range []string{"root/cove", "run/cove"} {
		_ = filepath.WalkDir(filepath.Join(work, top), func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return nil
			}
			place, _ := filepath.Rel(work, path)
			for name, id := range d.ids {
				place = strings.ReplaceAll(place, id, "@"+name)
				place = strings.ReplaceAll(place, id[:12], "@@"+name) // among the names for resolvers
			}
			if !strings.Contains(place, "@other") && !strings.Contains(place, "kept") {
				places = append(places, place)
			}
			if entry.IsDir() && slices.Contains([]string{"diff", "work", "_data", "index"}, entry.Name()) {
				return fs.SkipDir
			}
			return nil
		})
	}
	return places
}

// meet damages the store, has commands meet that, and removes everything.
func (d *damaged) meet(place, how string) {
	t, path := d.t, filepath.Join(d.house.work, place)
	for name, id := range d.ids {
		path = strings.ReplaceAll(path, "@@"+name, id[:12])
		path = strings.ReplaceAll(path, "@"+name, id)
	}
	if err := errors.Join(os.RemoveAll(path), damages[how](path, d.precious())); err != nil {
		t.Fatal(err)
	}
	// Nothing can be looked up in a link to nothing; by force it goes.
	blind := place == "root/cove/containers/@up" && how == "dangling"
	wide := storeWide.MatchString(place + ":" + how)
	lives := func(who string, pids []int) {
		for _, pid := range pids {
			if err := unix.Kill(pid, 0); err != nil {
				t.Fatalf("%s has ended process %d", who, pid)
			}
		}
	}
	steps := []string{"ps -a", "inspect up done new", "system check", "exec other true", "exec up true", "logs up", "logs done", "top up", "diff new",
		"volume inspect vol", "network inspect net", "system df", "system check --repair", "start up", "start done", "run --rm localhost/bb true"}
	for _, c := range steps {
		out, err := d.call(strings.Fields(c)...)
		lives(c, d.alive)
		if err != nil && !wide && (strings.HasPrefix(c, "exec other") || strings.HasPrefix(c, "run ")) {
			t.Errorf("%s: %v: %s", c, err, out)
		}
	}
	for _, c := range []string{"stop -t 0 up", "start up", "rm -f -t 0 up", "rm -f done", "rm -f new", "volume rm vol", "network rm net"} {
		out, err := d.call(strings.Fields(c)...)
		lives(c, d.alive[:1])
		refused := strings.HasPrefix(c, "start") || strings.HasPrefix(c, "stop") && blind
		if err != nil && !wide && !refused {
			t.Errorf("%s: %v: %s", c, err, out)
		}
	}
	if !wide {
		d.end()
	}
}

// end removes what is left, and sees that it is gone.
func (d *damaged) end() {
	for _, c := range []string{"rm -af -t 0", "volume rm -af", "network prune -f", "container prune -f", "system check --repair"} {
		if out, err := d.call(strings.Fields(c)...); err != nil && c != "system check --repair" {
			d.t.Errorf("at the end: %s: %v: %s", c, err, out)
		}
	}
	if out, err := d.call("system", "check"); err != nil || out != "" {
		d.t.Errorf("at the end: system check: %v: %s", err, out)
	}
	for pid, why := range d.house.processes() {
		d.t.Errorf("left behind: process %d: %s", pid, why)
	}
	for _, group := range d.house.cgroups() {
		d.t.Errorf("left behind: %s", group)
	}
	for _, dir := range []string{"containers", "locks", "removed"} {
		entries, _ := os.ReadDir(filepath.Join(d.house.work, "root/cove", dir))
		for _, entry := range entries {
			d.t.Errorf("left behind: %s/%s", dir, entry.Name())
		}
	}
}
