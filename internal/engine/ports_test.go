package engine

import (
	"testing"
	"time"

	conf "go.podman.io/common/pkg/config"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/config"
)

// An image chooses what it exposes: all that there is takes no time either.
func TestPublishAllPorts(t *testing.T) {
	c := &cove.Container{}
	c.Spec.PublishAll = true
	c.Image.ExposedPorts = []string{"1-65535/tcp", "1-65535/udp", "80"}
	c.Ports = []cove.PortMapping{{ContainerPort: 80, HostPort: 8080, Protocol: "tcp"}, {ContainerPort: 90, HostPort: 9090, Range: 2, Protocol: "udp"}}
	began := time.Now()
	d := &draft{e: &Engine{conf: &config.Config{File: &conf.Config{}}}, c: c}
	if err := d.ports(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("took %v", took)
	}
	seen := map[cove.PortMapping]bool{}
	for _, p := range c.Ports[2:] {
		seen[p] = true
	}
	if len(c.Ports) != 2+65534+65533 || len(seen) != 65534+65533 {
		t.Errorf("%d ports are published, %d of them other than asked for", len(c.Ports), len(seen))
	}
}
