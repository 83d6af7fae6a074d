package image_test

import (
	"os/exec"
	"strings"
	"testing"
)

// heavy are the beginnings of the packages whose initialisation makes a
// program start slowly.
var heavy = []string{
	"go.podman.io/image/v5/", "go.podman.io/common/libimage", "github.com/docker/distribution/",
	"google.golang.org/protobuf/", "google.golang.org/grpc",
	"github.com/cove-engine/cove/internal/image/library",
}

// TestFrontIsLight: nothing that the quickly starting program consists of
// links the image libraries, by whatever way.
func TestFrontIsLight(t *testing.T) {
	deps := dependencies(t, "../cli", "../engine", "./front")
	for _, d := range deps {
		if isHeavy(d) {
			t.Errorf("the front links %s: `go list -deps -f '{{.ImportPath}} {{.Imports}}'` tells who imports it", d)
		}
	}
	// What the test looks for is there where it belongs.
	full := false
	for _, d := range dependencies(t, "./library") {
		full = full || isHeavy(d) && strings.HasPrefix(d, "go.podman.io/image/v5/")
	}
	if !full {
		t.Error("the image libraries are not found even in package library")
	}
}

// TestDoorIsLight: the door itself links the standard library only.
func TestDoorIsLight(t *testing.T) {
	for _, d := range dependencies(t, ".", "./index", "./front") {
		first, _, _ := strings.Cut(d, "/")
		if strings.Contains(first, ".") && d != "github.com/cove-engine/cove" && !strings.HasPrefix(d, "github.com/cove-engine/cove/internal/image") {
			t.Errorf("the door links %s", d)
		}
	}
}

func isHeavy(pkg string) bool {
	for _, h := range heavy {
		if strings.HasPrefix(pkg+"/", strings.TrimSuffix(h, "/")+"/") {
			return true
		}
	}
	return false
}

// dependencies lists everything that packages link, with cove's build tags
// and so as cove is built.
func dependencies(t *testing.T, packages ...string) []string {
	t.Helper()
	bin, err := exec.LookPath("go")
	if err != nil {
		t.Skip("needs the go command: ", err)
	}
	cmd := exec.Command(bin, append([]string{"list", "-deps", "-tags=containers_image_openpgp,exclude_graphdriver_btrfs"}, packages...)...)
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	return strings.Fields(string(out))
}
