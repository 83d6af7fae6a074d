package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/engine"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/inspect"
)

// objectsEngine is an engine with a few images, volumes and networks, which
// writes down what it is asked. Methods of containers are those of a nil
// interface.
type objectsEngine struct {
	Engine
	calls    []string // in order, one line each
	images   []image.Summary
	layers   []image.HistoryEntry
	volumes  []inspect.Volume
	networks []cove.Network
	events   []cove.Event
	found    []engine.Difference
	usage    inspect.DiskUsage
	info     inspect.Info
	network  cove.Network // as created
	save     image.SaveOptions
	multi    bool // containers.conf's multi_image_archive
	imported image.ImportOptions
	pull     image.PullOptions
	push     image.PushOptions
	login    image.LoginOptions
	fail     map[string]error // by object
}

func (e *objectsEngine) Defaults() (engine.Defaults, error) {
	return engine.Defaults{MultiImageArchive: e.multi}, nil
}

func (e *objectsEngine) call(format string, args ...any) {
	e.calls = append(e.calls, fmt.Sprintf(format, args...))
}

// noObject is the error for an unknown object.
func noObject(op, name string) error {
	return cove.E(op, name, cove.NotFound, errors.New("no such object"))
}

func filterText(filters map[string][]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(filters)) {
		out = append(out, k+"="+strings.Join(filters[k], "|"))
	}
	return strings.Join(out, " ")
}

func (e *objectsEngine) CreateVolume(_ context.Context, v cove.Volume, ignore bool) (cove.Volume, error) {
	e.call("create volume %s %s %v %v %v", v.Name, v.Driver, v.Labels, v.Options, ignore)
	if v.Name == "" {
		v.Name = strings.Repeat("0", 64)
	}
	return v, e.fail[v.Name]
}

func (e *objectsEngine) Volumes(_ context.Context, filters map[string][]string) ([]inspect.Volume, error) {
	e.call("volumes %s", filterText(filters))
	return e.volumes, nil
}

func (e *objectsEngine) Volume(_ context.Context, name string) (inspect.Volume, error) {
	for _, v := range e.volumes {
		if v.Name == name {
			return v, nil
		}
	}
	return inspect.Volume{}, noObject("inspect volume", name)
}

func (e *objectsEngine) RemoveVolume(_ context.Context, name string, o engine.RemoveOptions) (string, error) {
	e.call("rm volume %s %v %s", name, o.Force, seconds(o.Timeout))
	if err := e.fail[name]; err != nil {
		return "", err
	}
	_, err := e.Volume(context.Background(), name)
	return name, err
}

func seconds(t *uint) string {
	if t == nil {
		return "-"
	}
	return fmt.Sprint(*t)
}

func (e *objectsEngine) PruneVolumes(_ context.Context, filters map[string][]string) ([]string, []int64, error) {
	e.call("prune volumes %s", filterText(filters))
	var names []string
	for _, v := range e.volumes {
		names = append(names, v.Name)
	}
	return names, make([]int64, len(names)), nil
}

func (e *objectsEngine) CreateNetwork(_ context.Context, n cove.Network, ignore bool) (cove.Network, error) {
	e.network = n
	e.call("create network %s %v", n.Name, ignore)
	if n.Name == "" {
		n.Name = "cove1"
	}
	return n, e.fail[n.Name]
}

func (e *objectsEngine) Networks(_ context.Context, filters map[string][]string) ([]cove.Network, error) {
	e.call("networks %s", filterText(filters))
	return e.networks, nil
}

func (e *objectsEngine) Network(_ context.Context, name string) (inspect.Network, error) {
	for _, n := range e.networks {
		if n.Name == name {
			return inspect.Network{Network: n, Containers: map[string]inspect.NetworkContainer{}}, nil
		}
	}
	return inspect.Network{}, noObject("inspect network", name)
}

func (e *objectsEngine) RemoveNetwork(_ context.Context, name string, o engine.RemoveOptions) (string, error) {
	e.call("rm network %s %v %s", name, o.Force, seconds(o.Timeout))
	if err := e.fail[name]; err != nil {
		return "", err
	}
	_, err := e.Network(context.Background(), name)
	return name, err
}

func (e *objectsEngine) ConnectNetwork(_ context.Context, container string, a cove.NetworkAttachment) error {
	e.call("connect %s %s %v %v %s", container, a.Network, a.Aliases, a.StaticIPs, a.MAC)
	return e.fail[container]
}

func (e *objectsEngine) DisconnectNetwork(_ context.Context, container, network string, force bool) error {
	e.call("disconnect %s %s %v", container, network, force)
	return e.fail[container]
}

func (e *objectsEngine) ReloadNetwork(_ context.Context, nameOrID string) (string, error) {
	e.call("reload %s", nameOrID)
	return "id of " + nameOrID, e.fail[nameOrID]
}

func (e *objectsEngine) PruneNetworks(_ context.Context, filters map[string][]string) ([]string, error) {
	e.call("prune networks %s", filterText(filters))
	return []string{"n1", "n2"}, nil
}

func (e *objectsEngine) Info(context.Context) (inspect.Info, error) { return e.info, nil }

func (e *objectsEngine) Events(_ context.Context, since, until time.Time, follow bool, filters map[string][]string, each func(cove.Event) error) error {
	e.call("events %v %v %v %s", since.IsZero(), until.IsZero(), follow, filterText(filters))
	for _, ev := range e.events {
		if err := each(ev); err != nil {
			return err
		}
	}
	return nil
}

func (e *objectsEngine) Check(_ context.Context, repair, quick bool) ([]engine.Difference, error) {
	e.call("check %v %v", repair, quick)
	return e.found, e.fail["check"]
}

func (e *objectsEngine) Renumber() error {
	e.call("renumber")
	return e.fail["renumber"]
}

func (e *objectsEngine) DiskUsage(context.Context) (inspect.DiskUsage, error) { return e.usage, nil }
func (e *objectsEngine) Reset(context.Context) error                          { e.calls = append(e.calls, "reset"); return nil }
func (e *objectsEngine) Places() (string, string)                             { return "/graph/cove", "/run/cove" }

func (e *objectsEngine) Images(_ context.Context, o image.ListOptions) ([]image.Summary, error) {
	e.call("images %v %v", o.All, o.Filters)
	return e.images, nil
}

func (e *objectsEngine) find(name string) (image.Summary, bool) {
	for _, i := range e.images {
		if i.ID == name || slices.Contains(i.Names, name) {
			return i, true
		}
	}
	return image.Summary{}, false
}

func (e *objectsEngine) ImageExists(_ context.Context, name string) (bool, error) {
	_, ok := e.find(name)
	return ok, e.fail[name]
}

func (e *objectsEngine) InspectImage(_ context.Context, name string) (*image.ImageData, error) {
	i, ok := e.find(name)
	if !ok {
		return nil, noObject("inspect image", name)
	}
	return &image.ImageData{ID: i.ID, RepoTags: i.Names, Architecture: "amd64", Os: "linux", Size: i.Size}, nil
}

func (e *objectsEngine) ImageHistory(_ context.Context, name string) ([]image.HistoryEntry, error) {
	if _, ok := e.find(name); !ok {
		return nil, noObject("read history of image", name)
	}
	return e.layers, nil
}

func (e *objectsEngine) PullImage(_ context.Context, name string, o image.PullOptions) ([]string, error) {
	e.pull = o
	e.call("pull %s", name)
	if o.Progress != nil {
		fmt.Fprintf(o.Progress, "Trying to pull %s...\n", name)
	}
	if err := e.fail[name]; err != nil {
		return nil, err
	}
	return []string{"id-of-" + name}, nil
}

func (e *objectsEngine) PushImage(_ context.Context, name, destination string, o image.PushOptions) (string, error) {
	e.push = o
	e.call("push %s %q", name, destination)
	return "sha256:d", e.fail[name]
}

func (e *objectsEngine) LoadImages(_ context.Context, path string, in io.Reader, o image.LoadOptions) ([]string, error) {
	e.call("load %q %v", path, o.Progress != nil)
	if path == "" {
		data, err := io.ReadAll(in)
		return []string{string(data)}, err
	}
	return []string{"localhost/q:1", "sha256:abc"}, e.fail[path]
}

func (e *objectsEngine) SaveImages(_ context.Context, names []string, o image.SaveOptions) error {
	e.save = o
	e.call("save %v", names)
	if o.Writer != nil {
		_, err := io.WriteString(o.Writer, "TAR")
		return err
	}
	return nil
}

func (e *objectsEngine) ImportImage(_ context.Context, source string, o image.ImportOptions) (string, error) {
	e.imported = o
	e.call("import %s", source)
	return "abc", e.fail[source]
}

func (e *objectsEngine) TagImage(_ context.Context, name string, names []string) error {
	e.call("tag %s %v", name, names)
	return e.fail[name]
}

func (e *objectsEngine) UntagImage(_ context.Context, name string, names []string) error {
	e.call("untag %s %v", name, names)
	return e.fail[name]
}

func (e *objectsEngine) RemoveImages(_ context.Context, names []string, o image.RemoveOptions) ([]image.RemoveReport, error) {
	e.call("rmi %v force=%v all=%v noprune=%v ignore=%v", names, o.Force, o.All, o.NoPrune, o.Ignore)
	var (
		gone []image.RemoveReport
		errs []error
	)
	for _, n := range names {
		i, ok := e.find(n)
		switch {
		case e.fail[n] != nil:
			errs = append(errs, e.fail[n])
		case ok:
			gone = append(gone, image.RemoveReport{ID: i.ID, Untagged: i.Names, Deleted: true})
		case !o.Ignore:
			errs = append(errs, noObject("remove image", n))
		}
	}
	return gone, errors.Join(errs...)
}

func (e *objectsEngine) PruneImages(_ context.Context, all bool, filters []string) ([]image.RemoveReport, error) {
	e.call("prune images %v %v", all, filters)
	return []image.RemoveReport{{ID: "i1", Deleted: true}, {ID: "i2", Untagged: []string{"x"}}}, nil
}

func (e *objectsEngine) Login(_ context.Context, registry string, o image.LoginOptions) error {
	e.login = o
	e.call("login %q", registry)
	return e.fail[registry]
}

func (e *objectsEngine) Logout(_ context.Context, registry string, o image.LogoutOptions) error {
	e.call("logout %q %v %q", registry, o.All, o.AuthFile)
	return e.fail[registry]
}

// ran is what a command line did.
type ran struct {
	code     int
	out, err string
}

// on runs a command line on e with the given standard input.
func (e *objectsEngine) on(t *testing.T, stdin string, args ...string) ran {
	t.Helper()
	var out, errs bytes.Buffer
	std := Stdio{In: strings.NewReader(stdin), Out: &out, Err: &errs, Env: []string{"HOME=/nonexistent"}}
	code := Main(t.Context(), append([]string{"cove"}, args...), std, func(Globals) (Engine, error) { return e, nil })
	return ran{code, out.String(), errs.String()}
}

// wantCalls compares what the engine was asked.
func (e *objectsEngine) wantCalls(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(e.calls, want) {
		t.Errorf("calls:\n%s\nwant:\n%s", strings.Join(e.calls, "\n"), strings.Join(want, "\n"))
	}
}

// want compares output and code; err is a part of stderr, "" none at all.
func (r ran) want(t *testing.T, code int, out, err string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d", r.code, code)
	}
	if r.out != out {
		t.Errorf("stdout:\n%s\nwant:\n%s", r.out, out)
	}
	if err == "" && r.err != "" || !strings.Contains(r.err, err) {
		t.Errorf("stderr %q, want %q", r.err, err)
	}
}

// tempFile makes a file with text.
func tempFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (e *objectsEngine) NeedImages() error { return nil }
