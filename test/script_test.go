package test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScript runs every script of testdata/script on the engine under test.
func TestScript(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes namespaces, mounts and cgroups")
	}
	e := underTest(t)
	// Short: podman refuses a run root of more than 50 characters.
	dir, err := os.MkdirTemp("/tmp", "ct")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if os.Getenv("COVE_TEST_KEEP") != "" {
			t.Log("kept: ", dir)
		} else if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	images := makeImages(t, filepath.Join(dir, "images"))
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		RequireUniqueNames: true,
		WorkdirRoot:        dir,
		Setup:              func(env *testscript.Env) error { return setup(env, e, images) },
		Condition:          e.condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ctr":      cmdCtr,
			"code":     cmdCode,
			"sh":       cmdShell,
			"outside":  cmdOutside,
			"until":    cmdUntil,
			"set":      cmdSet,
			"term":     cmdTerm,
			"registry": cmdRegistry,
			"signal":   cmdSignal,
		},
	})
}

// condition answers [cove], [podman], [podman4], [docker], [cgroup1],
// [cgroup2], [systemd] and [nat].
func (e engine) condition(name string) (bool, error) {
	switch name {
	case "cove", "podman", "docker":
		return e.name == name, nil
	case "podman4":
		return e.name == "podman" && e.major == "4", nil
	case "cgroup1":
		_, err := os.Stat("/sys/fs/cgroup/memory")
		return err == nil, nil
	case "cgroup2":
		return unified(), nil
	case "systemd":
		_, err := os.Stat("/run/systemd/private")
		return unified() && err == nil, nil
	case "nat":
		return nat(), nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}
