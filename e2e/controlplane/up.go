package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/client-go/rest"
)

// controllers are those the tests need. Pods never run here, so whatever looks
// after nodes, volumes or jobs would only cost time.
var controllers = []string{
	"clusterrole-aggregation-controller",
	"deployment-controller",
	"disruption-controller",
	"endpointslice-controller",
	"garbage-collector-controller",
	"horizontal-pod-autoscaler-controller",
	"namespace-controller",
	"replicaset-controller",
	"root-ca-certificate-publisher-controller",
	"serviceaccount-controller",
	"validatingadmissionpolicy-status-controller",
}

const (
	startDeadline = 90 * time.Second
	restartDelay  = 200 * time.Millisecond
)

// report is the line on stdout: printed when the API server is ready, and again
// whenever a component has been started anew.
type report struct {
	Kubeconfig string         `json:"kubeconfig"`
	Pids       map[string]int `json:"pids"`
}

// up runs the control plane until SIGTERM, an interrupt or the end of stdin. A
// component that dies is started again, as a node would do: a test may kill one.
func up() error {
	dir := flag.String("dir", "", "folder for data, keys and kubeconfig")
	logs := flag.String("logs", "", "folder for the logs (the same as -dir when empty)")
	apiPort := flag.Int("api-port", 6443, "port of the API server")
	etcdPort := flag.Int("etcd-port", 2379, "port of etcd; its peer port is the next one")
	flag.Parse()
	if *dir == "" {
		return errors.New("-dir is required")
	}
	if *logs == "" {
		*logs = *dir
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	go func() {
		// Whoever started us holds the other end: when it is gone, so are we.
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()

	keys, err := writeKeys(*dir, fmt.Sprintf("https://127.0.0.1:%d", *apiPort))
	if err != nil {
		return fmt.Errorf("writing keys: %w", err)
	}
	etcd, err := startEtcd(*dir, *logs, *etcdPort)
	if err != nil {
		return fmt.Errorf("starting etcd: %w", err)
	}
	defer etcd.Close()

	state := &state{report: report{Kubeconfig: keys.kubeconfig, Pids: map[string]int{"etcd": os.Getpid()}}}
	components := map[string][]string{
		"kube-apiserver":          apiserverFlags(keys, *apiPort, *etcdPort),
		"kube-controller-manager": managerFlags(keys),
	}
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	for name, flags := range components {
		running.Go(func() {
			if err := supervise(ctx, name, flags, filepath.Join(*logs, name+".log"), state); err != nil {
				fail(err)
			}
		})
	}
	if err := waitReady(ctx, keys); err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
			return cause
		}
		return err
	}
	state.ready()
	<-ctx.Done()
	return nil
}

func startEtcd(dir, logs string, port int) (*embed.Etcd, error) {
	config := embed.NewConfig()
	config.Dir = filepath.Join(dir, "etcd")
	config.UnsafeNoFsync = true // nothing here outlives the test run
	config.LogLevel = "warn"
	config.LogOutputs = []string{filepath.Join(logs, "etcd.log")}
	client, err := urls(port)
	if err != nil {
		return nil, err
	}
	peer, err := urls(port + 1)
	if err != nil {
		return nil, err
	}
	config.ListenClientUrls, config.AdvertiseClientUrls = client, client
	config.ListenPeerUrls, config.AdvertisePeerUrls = peer, peer
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return nil, err
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return etcd, nil
	case err := <-etcd.Err():
		return nil, err
	case <-time.After(startDeadline):
		etcd.Close()
		return nil, errors.New("not ready in time")
	}
}

func apiserverFlags(keys keys, port, etcdPort int) []string {
	return []string{
		fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", etcdPort),
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1", // the network of the tests has no default route to guess it from
		fmt.Sprintf("--secure-port=%d", port),
		"--endpoint-reconciler-type=none",
		"--service-cluster-ip-range=10.96.0.0/16",
		"--authorization-mode=RBAC",
		// Off by default upstream, on in many clusters: it asks for rights on
		// finalizers of an owner that a controller easily forgets.
		"--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
		"--tls-cert-file=" + keys.servingCert,
		"--tls-private-key-file=" + keys.servingKey,
		"--client-ca-file=" + keys.ca,
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + keys.serviceAccountPublic,
		"--service-account-signing-key-file=" + keys.serviceAccount,
	}
}

func managerFlags(keys keys) []string {
	return []string{
		"--kubeconfig=" + keys.kubeconfig,
		"--controllers=" + strings.Join(controllers, ","),
		"--leader-elect=false",
		"--secure-port=0",
		"--kube-api-qps=200",
		"--kube-api-burst=400",
		"--root-ca-file=" + keys.ca,
		"--service-account-private-key-file=" + keys.serviceAccount,
	}
}

// supervise keeps one component running until ctx ends. It returns early only
// when the component can't be started at all, or ends before the control plane
// has ever been ready (a wrong flag, most likely).
func supervise(ctx context.Context, name string, flags []string, logFile string, state *state) error {
	// Linux sends the parent-death signal when the *thread* that forked ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for {
		cmd := exec.CommandContext(ctx, self, append([]string{name}, flags...)...)
		cmd.Stdout, cmd.Stderr = log, log
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("starting %s: %w", name, err)
		}
		state.started(name, cmd.Process.Pid)
		err := cmd.Wait()
		if ctx.Err() != nil {
			return nil
		}
		if !state.wasReady() {
			return fmt.Errorf("%s ended (%v), see %s", name, err, logFile)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(restartDelay):
		}
	}
}

func waitReady(ctx context.Context, keys keys) error {
	client, err := rest.HTTPClientFor(keys.admin)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startDeadline)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	last := errors.New("no answer yet")
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("API server is not ready: %w", last)
		case <-tick.C:
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, keys.admin.Host+"/readyz", nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			last = err
			continue
		}
		response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return nil
		}
		last = errors.New(response.Status)
	}
}

// state is what the report line says; it is written only once all is ready.
type state struct {
	sync.Mutex
	report  report
	printed bool
}

func (s *state) started(name string, pid int) {
	s.Lock()
	defer s.Unlock()
	s.report.Pids[name] = pid
	if s.printed {
		s.print()
	}
}

func (s *state) ready() {
	s.Lock()
	defer s.Unlock()
	s.printed = true
	s.print()
}

func (s *state) wasReady() bool {
	s.Lock()
	defer s.Unlock()
	return s.printed
}

func (s *state) print() {
	_ = json.NewEncoder(os.Stdout).Encode(s.report)
}
