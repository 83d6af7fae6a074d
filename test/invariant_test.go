package test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// grace is how long remains of removed containers may take to go.
const grace = 20 * time.Second

// close removes everything that the script made, with the engine's own
// commands, and then looks for what is left.
func (h *house) close() {
	h.remove()
	if !h.tb.Failed() {
		var left []string
		for deadline := time.Now().Add(grace); ; time.Sleep(100 * time.Millisecond) {
			if left = h.leaks(); len(left) == 0 || time.Now().After(deadline) {
				break
			}
		}
		for _, l := range left {
			h.tb.Errorf("left behind: %s", l)
		}
		if h.name == "cove" {
			if out, err := h.output(patience, "ctr", "system", "check"); err != nil || out != "" {
				h.tb.Errorf("system check: %v\n%s", err, out)
			}
		}
	}
	for _, f := range slices.Backward(h.closed) {
		f()
	}
	h.killAll()
	for _, m := range mountsBelow(h.work, "") {
		_ = unix.Unmount(m, unix.MNT_DETACH)
	}
	// At once: the stores of all scripts are more than a small disk holds.
	if os.Getenv("COVE_TEST_KEEP") == "" {
		_ = os.RemoveAll(h.work) // the test fails when its whole directory cannot be removed
	}
}

// remove uses the engine's own commands; scripts may have left the store
// damaged on purpose, so only a script that is still green complains.
func (h *house) remove() {
	if out, err := h.output(patience, "ctr", "ps", "-aq", "--no-trunc"); err == nil {
		for _, id := range fullID.FindAllString(out, -1) {
			h.seen[id] = true
		}
	}
	commands := []string{"ctr rm -af -t 0", "ctr volume rm -af", "ctr network prune -f", "ctr rmi -af"}
	switch h.name {
	case "podman":
		commands[1] = "ctr volume prune -f"
	case "docker":
		commands = []string{"ids=$(ctr ps -aq); [ -z \"$ids\" ] || ctr rm -fv $ids", "ctr volume prune -f", "ctr network prune -f", "ctr system prune -af"}
	}
	if h.name == "cove" {
		// What --rm has removed leaves a mark until the next write.
		commands = append(commands, "ctr container prune -f")
	}
	for _, c := range commands {
		if out, err := h.output(patience, "sh", "-c", c); err != nil && !h.tb.Failed() {
			h.tb.Errorf("at the end: %s: %v\n%s", c, err, out)
		}
	}
}

// leaks lists what no container owns any more.
func (h *house) leaks() []string {
	var found []string
	var own string
	switch h.name {
	case "podman":
		own = filepath.Join(h.root, "overlay") // containers/storage's bind mount on itself
	case "docker":
		own = h.root // the daemon's, until it ends
	}
	for _, m := range mountsBelow(h.work, own) {
		if h.name == "docker" && m == filepath.Join(h.run, "netns/default") {
			continue // the host's, kept by the daemon for --network host
		}
		found = append(found, "mount "+m)
	}
	if h.name == "docker" { // its daemon and network stay until the end
		return found
	}
	// podman's for its user's namespace, which it keeps on purpose.
	pause, _ := os.ReadFile(filepath.Join(h.work, ".tmpdir", "pause.pid"))
	for pid, why := range h.processes() {
		if strconv.Itoa(pid) == strings.TrimSpace(string(pause)) {
			continue
		}
		found = append(found, fmt.Sprintf("process %d: %s", pid, why))
	}
	found = append(found, h.cgroups()...)
	found = append(found, h.links()...)
	if h.name == "cove" {
		found = append(found, h.elements()...)
		for _, dir := range []string{"containers", "locks", "removed"} {
			entries, _ := os.ReadDir(filepath.Join(h.root, "cove", dir))
			for _, e := range entries {
				found = append(found, "file "+filepath.Join(h.root, "cove", dir, e.Name()))
			}
		}
	}
	slices.Sort(found)
	return found
}

// mountsBelow lists mount points below dir but one, deepest first.
func mountsBelow(dir, except string) []string {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return []string{err.Error()}
	}
	var found []string
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) > 4 && strings.HasPrefix(f[4], dir+"/") && f[4] != except {
			found = append(found, f[4])
		}
	}
	slices.Sort(found)
	slices.Reverse(found)
	return found
}

// processes finds those whose command line, environment, directory, root or
// program is of this script, with why.
func (h *house) processes() map[int]string {
	found := map[int]string{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return found
	}
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscan(e.Name(), &pid); err != nil || pid == os.Getpid() {
			continue
		}
		dir := filepath.Join("/proc", e.Name())
		argv, _ := os.ReadFile(dir + "/cmdline")
		for _, file := range []string{"cmdline", "environ"} {
			data, _ := os.ReadFile(filepath.Join(dir, file))
			if bytes.Contains(data, []byte(h.work+"/")) {
				found[pid] = file + ": " + string(bytes.ReplaceAll(argv, []byte{0}, []byte{' '}))
			}
		}
		for _, link := range []string{"cwd", "root", "exe"} {
			if to, err := os.Readlink(filepath.Join(dir, link)); err == nil && (to == h.work || strings.HasPrefix(to, h.work+"/")) {
				found[pid] = link + " " + to
			}
		}
		if slices.ContainsFunc([]string{"dockerd", "containerd"}, func(s string) bool { return strings.Contains(string(argv), s) }) && h.name == "docker" {
			delete(found, pid)
		}
	}
	return found
}

// killAll ends what is left, so that one bad script does not spoil the next.
func (h *house) killAll() {
	for pid := range h.processes() {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// cgroups lists the groups named after containers of this script.
func (h *house) cgroups() []string {
	var found []string
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // groups come and go meanwhile
		}
		if !d.IsDir() {
			return nil
		}
		if h.name == "cove" && strings.HasPrefix(d.Name(), "libpod") {
			return fs.SkipDir // a script may have seen another engine's
		}
		for _, id := range fullID.FindAllString(strings.ReplaceAll(d.Name(), "-", " "), -1) {
			if h.seen[id] {
				found = append(found, "cgroup "+path)
				return fs.SkipDir
			}
		}
		return nil
	})
	return found
}

// defaultBridge is cove's bridge of the network that cannot be removed; it
// stays when the last container has gone, as docker0 does.
const defaultBridge = "cove0"

var ofDefaultBridge = regexp.MustCompile(`^{ "` + defaultBridge + `"( comment "[^"]*")?( : jump [\w-]+)? }$`)

// links lists the network links but lo, the one to the outside and the
// default network's bridge.
func (h *house) links() []string {
	out, err := exec.Command("nsenter", "--net="+h.netns, "ip", "-o", "link", "show").Output()
	if err != nil {
		return []string{"ip link: " + err.Error()}
	}
	var found []string
	for line := range strings.Lines(string(out)) {
		name, _, _ := strings.Cut(strings.TrimSpace(strings.SplitN(line, ":", 3)[1]), "@")
		if name != "lo" && name != "up0" && (name != defaultBridge || h.name != "cove") {
			found = append(found, "link "+name)
		}
	}
	return found
}

// elements lists what is left in sets and maps of the packet filter, but for
// the default network's bridge.
func (h *house) elements() []string {
	out, err := exec.Command("nsenter", "--net="+h.netns, "nft", "-s", "list", "ruleset").Output()
	if err != nil {
		return []string{"nft: " + err.Error()}
	}
	var found []string
	for line := range strings.Lines(string(out)) {
		if e, ok := strings.CutPrefix(strings.TrimSpace(line), "elements = "); ok && !ofDefaultBridge.MatchString(e) {
			found = append(found, "nft element "+e)
		}
	}
	return found
}
