// Command client is a controller author's client-go against a cluster: `client KUBECONFIG IMAGE`.
// It prints `done`, or what it expected and ends with 1. IMAGE has busybox's commands.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/retry"
)

const (
	namespace = "go-client"
	deadline  = time.Minute
)

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func expect(good bool, format string, args ...any) {
	if !good {
		panic(fmt.Errorf("expected "+format, args...))
	}
}

func until(ctx context.Context, what string, condition func() bool) {
	err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, deadline, true, func(context.Context) (bool, error) {
		return condition(), nil
	})
	expect(err == nil, "%s within %s", what, deadline)
}

func configMap(name string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "go"}}, Data: data}
}

// Informers see what is there and what comes, over protobuf and streamed lists, typed and metadata-only.
func informing(ctx context.Context, config *rest.Config) {
	set := must(kubernetes.NewForConfig(config))
	maps := set.CoreV1().ConfigMaps(namespace)
	for i := range 50 {
		must(maps.Create(ctx, configMap(fmt.Sprintf("before-%d", i), nil), metav1.CreateOptions{}))
	}
	factory := informers.NewSharedInformerFactoryWithOptions(set, 0, informers.WithNamespace(namespace))
	informer := factory.Core().V1().ConfigMaps().Informer()
	var added, updated, deleted atomic.Int32
	must(informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { added.Add(1) },
		UpdateFunc: func(any, any) { updated.Add(1) },
		DeleteFunc: func(any) { deleted.Add(1) },
	}))
	factory.Apps().V1().Deployments().Informer()
	factory.Coordination().V1().Leases().Informer()
	only := metadatainformer.NewFilteredSharedInformerFactory(must(metadata.NewForConfig(config)), 0, namespace, nil)
	names := only.ForResource(corev1.SchemeGroupVersion.WithResource("configmaps")).Lister()
	factory.Start(ctx.Done())
	only.Start(ctx.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		expect(synced, "%s to be synced", kind)
	}
	only.WaitForCacheSync(ctx.Done())
	for i := range 50 {
		must(maps.Create(ctx, configMap(fmt.Sprintf("after-%d", i), nil), metav1.CreateOptions{}))
	}
	patch := []byte(`{"data":{"k":"v"}}`)
	for i := range 50 {
		must(maps.Patch(ctx, fmt.Sprintf("after-%d", i), types.StrategicMergePatchType, patch, metav1.PatchOptions{}))
	}
	check(maps.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "app=go"}))
	// The root CA's ConfigMap is there too.
	until(ctx, "100 added and deleted, 50 updated", func() bool {
		return added.Load() >= 100 && updated.Load() >= 50 && deleted.Load() == 100
	})
	until(ctx, "the metadata informer to be empty but for the root CA", func() bool {
		all, err := names.List(labels.Everything())
		return err == nil && len(all) <= 1
	})
}

// One of three leads; when it steps down another takes over.
func electing(ctx context.Context, config *rest.Config) {
	var mu sync.Mutex
	var terms []string
	ended := make(chan struct{}, 3)
	stops := map[string]context.CancelFunc{}
	for _, id := range []string{"a", "b", "c"} {
		own, stop := context.WithCancel(ctx)
		stops[id] = stop
		set := must(kubernetes.NewForConfig(rest.AddUserAgent(rest.CopyConfig(config), id)))
		lock := &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Name: "leader", Namespace: namespace},
			Client:     set.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: id},
		}
		elector := must(leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: lock, LeaseDuration: 3 * time.Second, RenewDeadline: 2 * time.Second, RetryPeriod: 200 * time.Millisecond,
			ReleaseOnCancel: true,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(context.Context) {
					mu.Lock()
					defer mu.Unlock()
					terms = append(terms, id)
				},
				OnStoppedLeading: func() {},
			},
		}))
		go func() {
			elector.Run(own)
			ended <- struct{}{}
		}()
	}
	leaders := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(terms)
	}
	for n := 1; n <= 3; n++ {
		until(ctx, fmt.Sprintf("leader %d", n), func() bool { return leaders() == n })
		mu.Lock()
		stop := stops[terms[n-1]]
		mu.Unlock()
		stop()
		<-ended
	}
	lease := must(must(kubernetes.NewForConfig(config)).CoordinationV1().Leases(namespace).Get(ctx, "leader", metav1.GetOptions{}))
	expect(*lease.Spec.LeaseTransitions >= 2, "two changes of leader, not %d", *lease.Spec.LeaseTransitions)
}

// Discovery, the mapper, the dynamic client, conflicts that are retried, applies.
func writing(ctx context.Context, config *rest.Config) {
	found := must(discovery.NewDiscoveryClientForConfig(config))
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(found))
	mapping := must(mapper.RESTMapping(schema.GroupKind{Group: "apps", Kind: "Deployment"}))
	expect(mapping.Resource.Resource == "deployments", "deployments, not %s", mapping.Resource)
	client := must(dynamic.NewForConfig(config)).Resource(corev1.SchemeGroupVersion.WithResource("configmaps")).Namespace(namespace)
	object := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": "counter"}, "data": map[string]any{"n": ""}}}
	must(client.Create(ctx, object, metav1.CreateOptions{}))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			check(retry.RetryOnConflict(wait.Backoff{Steps: 50, Duration: time.Millisecond, Jitter: 1}, func() error {
				current, err := client.Get(ctx, "counter", metav1.GetOptions{})
				if err != nil {
					return err
				}
				n, _, _ := unstructured.NestedString(current.Object, "data", "n")
				check(unstructured.SetNestedField(current.Object, n+"x", "data", "n"))
				_, err = client.Update(ctx, current, metav1.UpdateOptions{})
				return err
			}))
		})
	}
	all.Wait()
	last := must(client.Get(ctx, "counter", metav1.GetOptions{}))
	n, _, _ := unstructured.NestedString(last.Object, "data", "n")
	expect(len(n) == 8, "eight updates and none lost, not %q", n)

	maps := must(kubernetes.NewForConfig(config)).CoreV1().ConfigMaps(namespace)
	apply := func(value, manager string, force bool) error {
		wanted := applycorev1.ConfigMap("applied", namespace).WithData(map[string]string{"k": value})
		_, err := maps.Apply(ctx, wanted, metav1.ApplyOptions{FieldManager: manager, Force: force})
		return err
	}
	check(apply("1", "first", false))
	err := apply("2", "second", false)
	expect(apierrors.IsConflict(err), "a conflict, not %v", err)
	check(apply("2", "second", true))
	live := must(maps.Get(ctx, "applied", metav1.GetOptions{}))
	extracted := must(applycorev1.ExtractConfigMap(live, "second"))
	expect(extracted.Data["k"] == "2", "the second's field, not %v", extracted.Data)
	_, err = maps.Create(ctx, configMap("Not_A_Name", nil), metav1.CreateOptions{})
	expect(apierrors.IsInvalid(err), "an invalid name, not %v", err)
	var status apierrors.APIStatus
	expect(errors.As(err, &status) && status.Status().Details.Causes[0].Field == "metadata.name", "a field path in %v", err)
}

// A pod, its log, and exec over WebSocket and over SPDY.
func running(ctx context.Context, config *rest.Config, image string) {
	set := must(kubernetes.NewForConfig(config))
	until(ctx, "the account", func() bool {
		_, err := set.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		return err == nil
	})
	none := int64(0)
	pods := set.CoreV1().Pods(namespace)
	must(pods.Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{
		TerminationGracePeriodSeconds: &none,
		Containers: []corev1.Container{{Name: "c", Image: image, ImagePullPolicy: corev1.PullIfNotPresent,
			Command: []string{"sh", "-c", "echo from the log; sleep 1000"}}},
	}}, metav1.CreateOptions{}))
	until(ctx, "a running pod", func() bool {
		pod, err := pods.Get(ctx, "p", metav1.GetOptions{})
		return err == nil && pod.Status.Phase == corev1.PodRunning
	})
	until(ctx, "the log", func() bool {
		text, err := pods.GetLogs("p", &corev1.PodLogOptions{}).DoRaw(ctx)
		return err == nil && string(text) == "from the log\n"
	})
	url := set.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name("p").SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: "c", Stdin: true, Stdout: true, Stderr: true,
			Command: []string{"sh", "-c", "cat; echo err >&2; exit 7"}}, scheme.ParameterCodec).URL()
	ways := map[string]remotecommand.Executor{
		"WebSocket": must(remotecommand.NewWebSocketExecutor(config, "GET", url.String())),
		"SPDY":      must(remotecommand.NewSPDYExecutor(config, "POST", url)),
	}
	for way, executor := range ways {
		var out, errs bytes.Buffer
		err := executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: strings.NewReader("through " + way), Stdout: &out, Stderr: &errs})
		var code interface{ ExitStatus() int }
		expect(errors.As(err, &code) && code.ExitStatus() == 7, "exit code 7 over %s, not %v", way, err)
		expect(out.String() == "through "+way && errs.String() == "err\n", "both streams over %s, not %q and %q", way, out.String(), errs.String())
	}
	check(pods.Delete(ctx, "p", metav1.DeleteOptions{}))
}

func main() {
	defer func() {
		if reason := recover(); reason != nil {
			fmt.Fprintln(os.Stderr, "client:", reason)
			os.Exit(1)
		}
	}()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	config := must(clientcmd.BuildConfigFromFlags("", os.Args[1]))
	config.QPS = -1
	protobuf := rest.CopyConfig(config)
	protobuf.ContentType, protobuf.AcceptContentTypes = "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf,application/json"
	set := must(kubernetes.NewForConfig(config))
	must(set.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{}))
	informing(ctx, protobuf)
	informing(ctx, config)
	electing(ctx, config)
	writing(ctx, config)
	running(ctx, config, os.Args[2])
	check(set.CoreV1().Namespaces().Delete(ctx, namespace, metav1.DeleteOptions{}))
	fmt.Println("done")
}
