package cove_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/cove-engine/cove/"

// packages lists every package's files, tests left out, by directory.
func packages(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && p != "." || d.Name() == "testdata" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(p, ".go") && !strings.HasSuffix(p, "_test.go") && filepath.Base(p) != "gen.go" {
			all[filepath.Dir(p)] = append(all[filepath.Dir(p)], p)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestPackageComments: each package says once what it is.
func TestPackageComments(t *testing.T) {
	for dir, files := range packages(t) {
		var with []string
		for _, name := range files {
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc != nil {
				with = append(with, name)
			}
		}
		if len(with) != 1 {
			t.Errorf("%s: want one package comment, in one file, have them in %v", dir, with)
		}
	}
}

// TestNames: no package is named after nothing in particular.
func TestNames(t *testing.T) {
	for dir := range packages(t) {
		switch filepath.Base(dir) {
		case "util", "utils", "common", "helpers", "misc", "base", "types", "define", "entities":
			t.Errorf("%s: name the package after what it is", dir)
		}
	}
}

// law says who may import whom, with the reason. The first entry whose prefix
// fits a package rules it.
var law = []struct {
	from    string
	allowed []string // of this module
	std     bool     // else only the standard library and golang.org/x/sys
	why     string
}{
	{"internal/monitor/serve", []string{"", "internal/cgroup/oom", "internal/cgroup/tasks", "internal/coldjson", "internal/ctrinit", "internal/interrupt/early", "internal/journal", "internal/monitor", "internal/network/teardown", "internal/plan", "internal/procfs", "internal/rootfs", "internal/sysmon"}, true, "it is linked into the monitor, one of which lives beside every container"},
	{"internal/monitor", []string{"", "internal/coldjson", "internal/monitor", "internal/plan", "internal/syncdir", "internal/sysmon"}, true, "it is linked into the monitor"},
	{"internal/ctrinit", []string{"internal/coldjson", "internal/ctrinit", "internal/monitor/wire", "internal/ownthread", "internal/plan", "internal/procfs", "internal/rootfs/overlay", "internal/rootfs", "internal/sysmon"}, true, "it is linked into the monitor"},
	{"internal/journal/journalctl", []string{""}, false, "it is the door to a program"},
	{"internal/journal", nil, true, "it is linked into the monitor"},
	{"internal/coldjson", nil, true, "it is linked into the monitor"},
	{"internal/procfs", nil, true, "it is linked into the monitor"},
	{"internal/ownthread", nil, true, "it is linked into the monitor"},
	{"internal/syncdir", nil, true, "it is linked into the monitor"},
	{"internal/sysmon", nil, true, "it is linked into the monitor"},
	{"internal/plan", nil, true, "it is linked into the monitor"},
	{"internal/network/teardown", []string{""}, true, "it is linked into the monitor"},
	{"internal/state", []string{"", "internal/state", "internal/syncdir"}, false, "tool rooms do not know each other"},
	{"internal/lock", []string{"", "internal/lock", "internal/ownplace"}, false, "tool rooms do not know each other"},
	{"internal/cdi", []string{""}, false, "tool rooms do not know each other"},
	{"internal/event", []string{"", "internal/logfile", "internal/journal"}, false, "tool rooms do not know each other"},
	{"internal/logs", []string{"", "internal/logfile", "internal/journal"}, false, "tool rooms do not know each other"},
	{"internal/cgroup/oom", nil, true, "it is linked into the monitor"},
	{"internal/cgroup/tasks", nil, true, "it is linked into the monitor"},
	{"internal/cgroup", []string{""}, false, "tool rooms do not know each other"},
	{"internal/seccomp", []string{""}, false, "tool rooms do not know each other"},
	{"internal/spec", []string{"", "internal/capability", "internal/signal"}, false, "it is pure"},
	{"internal/checkpoint", []string{""}, false, "it is pure"},
	{"internal/image", []string{"", "internal/image", "internal/procfs", "internal/syncdir", "internal/unnamed"}, false, "tool rooms do not know each other"},
	{"internal/network", []string{"", "internal/network", "internal/ownthread"}, false, "tool rooms do not know each other"},
	{"internal/oci", []string{"", "internal/capability", "internal/plan", "internal/oci"}, false, "it compiles specs into plans"},
	{"internal/inspect", []string{"", "internal/capability", "internal/signal"}, false, "it is pure"},
	{"internal/mount", []string{""}, false, "it is pure"},
	{"internal/top", []string{"", "internal/capability", "internal/procfs"}, false, "tool rooms do not know each other"},
	{"internal/signal", nil, true, "it is pure"},
	{"internal/capability", nil, true, "it is pure"},
	{"internal/config", []string{"", "internal/procfs", "internal/safepath"}, false, "tool rooms do not know each other"},
	{"internal/rootfs/archive", []string{"", "internal/rootfs"}, false, "it packs what rootfs opens"},
	{"internal/rootfs/changes", []string{"internal/rootfs"}, true, "it compares what rootfs opens"},
	{"internal/rootfs", []string{"", "internal/ownthread", "internal/plan", "internal/procfs"}, true, "it is linked into the monitor"},
	{"internal/rootless", []string{"", "internal/ownthread"}, true, "it runs before anything else does"},
	{"internal/companion", []string{"", "internal/companion", "internal/ownplace", "internal/safepath"}, false, "tool rooms do not know each other"},
}

// TestImports holds the law.
func TestImports(t *testing.T) {
	for dir, files := range packages(t) {
		if dir == "." {
			checkImports(t, ".", files, nil, true, "the nouns import nothing")
			continue
		}
		for _, rule := range law {
			if dir == rule.from || strings.HasPrefix(dir, rule.from+"/") {
				checkImports(t, dir, files, rule.allowed, rule.std, rule.why)
				break
			}
		}
	}
}

func checkImports(t *testing.T, dir string, files, allowed []string, std bool, why string) {
	t.Helper()
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range f.Imports {
			path := strings.Trim(imp.Path.Value, `"`)
			ours, isOurs := strings.CutPrefix(path+"/", module)
			ours = strings.TrimSuffix(ours, "/")
			switch {
			case isOurs:
				ok := false
				for _, a := range allowed {
					ok = ok || ours == a || a != "" && strings.HasPrefix(ours, a+"/")
				}
				if !ok {
					t.Errorf("%s imports %s: %s", name, path, why)
				}
			case std && strings.Contains(strings.Split(path, "/")[0], ".") && !strings.HasPrefix(path, "golang.org/x/sys/"):
				t.Errorf("%s imports %s: %s", name, path, why)
			}
		}
	}
}

// TestFastBuild: what takes long to initialise, or is rarely wanted, stays out
// of the program that people start.
func TestFastBuild(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-tags", "containers_image_openpgp,exclude_graphdriver_btrfs", "./cmd/cove").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, out := range strings.Fields(string(out)) {
		for _, heavy := range []string{"github.com/ncruces/go-sqlite3", "go.podman.io/image/v5/copy", "go.podman.io/storage/drivers"} {
			if strings.HasPrefix(out, heavy) {
				t.Errorf("cmd/cove links %s", out)
			}
		}
	}
}

// TestErrorTexts: decisions are made by kind, never by text. The one place
// where the cause reaches us as text only says so.
func TestErrorTexts(t *testing.T) {
	for _, files := range packages(t) {
		for _, name := range files {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for i, line := range strings.Split(string(data), "\n") {
				if strings.Contains(line, "strings.Contains(err.Error()") && !strings.Contains(line, "text only") {
					t.Errorf("%s:%d decides by the text of an error", name, i+1)
				}
			}
		}
	}
}

// lookups are the files in which an object is looked up: where cove.NotFound arises.
var lookups = map[string]string{
	"internal/state/wording.go":           "every bucket's",
	"internal/engine/hold.go":             "containers",
	"internal/engine/settle.go":           "the container goes as it is looked at",
	"internal/engine/create.go":           "the container goes as it is made",
	"internal/engine/volume_archive.go":   "volumes by their whole name",
	"internal/engine/connect.go":          "a container's networks",
	"internal/engine/diff.go":             "containers, then images",
	"internal/engine/checkpoint_image.go": "containers, then images",
	"internal/image/library/errors.go":    "images, here and in registries",
	"internal/image/library/tag.go":       "images' names",
	"internal/runtime/runtime.go":         "the OCI runtime's containers",
	"internal/cli/inspect.go":             "objects of every sort",
	"internal/cli/image_exists.go":        "images",
	"internal/cli/volume_exists.go":       "volumes",
	"internal/cli/selection.go":           "the latest container",
}

// TestNotFound: that an object is not found is said where objects are looked up, and
// nowhere else. rm -f and --ignore make a success of it, which a missing file must not
// bring about; that is [cove.NoFile].
func TestNotFound(t *testing.T) {
	makes := map[string]bool{}
	for _, files := range packages(t) {
		for _, name := range files {
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			var visit func(ast.Node) bool
			visit = func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CallExpr: // cove.Is asks
					if s, ok := n.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Is" {
						return false
					}
				case *ast.KeyValueExpr: // a table of exit codes has it as a key
					ast.Inspect(n.Value, visit)
					return false
				case *ast.SelectorExpr:
					if x, ok := n.X.(*ast.Ident); ok && x.Name == "cove" && n.Sel.Name == "NotFound" {
						makes[name] = true
					}
				}
				return true
			}
			ast.Inspect(f, visit)
		}
	}
	for name := range makes {
		if lookups[name] == "" && filepath.Dir(name) != "internal/state/statetest" {
			t.Errorf("%s makes errors of kind NotFound, and looks no object up", name)
		}
	}
	for name, what := range lookups {
		if !makes[name] {
			t.Errorf("%s looks up %s, and makes no errors of kind NotFound", name, what)
		}
	}
}
