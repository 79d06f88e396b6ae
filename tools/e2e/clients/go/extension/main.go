// Command extension is what extends a cluster: a definition of two versions with a conversion webhook, a mutating and a
// validating admission webhook, and a controller with informers, a queue, a finalizer and status: `extension KUBECONFIG`.
// The webhooks listen on this host's loopback. It prints `done`, or what it expected and ends with 1.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	group     = "clients.k0s.example"
	namespace = "extension"
	deadline  = time.Minute
)

var (
	v1          = schema.GroupVersionResource{Group: group, Version: "v1", Resource: "widgets"}
	v2          = schema.GroupVersionResource{Group: group, Version: "v2", Resource: "widgets"}
	definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
)

type object = map[string]any

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

func field(o *unstructured.Unstructured, path ...string) any {
	value, _, _ := unstructured.NestedFieldNoCopy(o.Object, path...)
	return value
}

func widget(version, name string, spec object) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: object{"apiVersion": group + "/" + version, "kind": "Widget",
		"metadata": object{"name": name}, "spec": spec}}
}

// Warnings that the server sent.
type warnings struct{ all []string }

func (w *warnings) HandleWarningHeader(_ int, _ string, text string) { w.all = append(w.all, text) }

type driver struct {
	config *rest.Config
	set    *kubernetes.Clientset
	client dynamic.Interface
	hooks  *hooks
	warned *warnings
}

func (d *driver) widgets(at schema.GroupVersionResource) dynamic.ResourceInterface {
	return d.client.Resource(at).Namespace(namespace)
}

// The definition, whose versions split an address in two ways.
func (d *driver) define(ctx context.Context) {
	text := object{"type": "string"}
	version := func(name string, storage bool, spec object) object {
		return object{"name": name, "served": true, "storage": storage, "subresources": object{"status": object{}},
			"schema": object{"openAPIV3Schema": object{"type": "object", "properties": object{
				"spec":   object{"type": "object", "properties": spec},
				"status": object{"type": "object", "properties": object{"observed": text}}}}}}
	}
	port := object{"type": "integer", "format": "int32"}
	crd := &unstructured.Unstructured{Object: object{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": object{"name": "widgets." + group},
		"spec": object{"group": group, "scope": "Namespaced",
			"names":    object{"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
			"versions": []any{version("v1", true, object{"address": text}), version("v2", false, object{"host": text, "port": port})},
			"conversion": object{"strategy": "Webhook", "webhook": object{"conversionReviewVersions": []any{"v1"},
				"clientConfig": object{"url": d.hooks.url("/convert"), "caBundle": d.hooks.bundle}}}}}}
	must(d.client.Resource(definitions).Create(ctx, crd, metav1.CreateOptions{}))
	until(ctx, "widgets to be served", func() bool {
		_, err := d.widgets(v2).List(ctx, metav1.ListOptions{})
		return err == nil
	})
}

// Two webhooks of admission; a third hangs and may fail.
func (d *driver) admit(ctx context.Context) {
	webhook := func(name, path, policy string, seconds int64) object {
		return object{"name": name + "." + group, "admissionReviewVersions": []any{"v1"}, "sideEffects": "None",
			"failurePolicy": policy, "timeoutSeconds": seconds, "matchPolicy": "Equivalent",
			"clientConfig":    object{"url": d.hooks.url(path), "caBundle": d.hooks.bundle},
			"matchConditions": []any{object{"name": "spec", "expression": "has(object.spec)"}},
			// Widgets of version 1 are converted for it.
			"rules": []any{object{"apiGroups": []any{group}, "apiVersions": []any{"v2"}, "resources": []any{"widgets"},
				"operations": []any{"CREATE", "UPDATE"}}}}
	}
	for kind, all := range map[string][]any{
		"Mutating":   {webhook("mutate", "/mutate", "Fail", 10)},
		"Validating": {webhook("validate", "/validate", "Fail", 10), webhook("hang", "/hang", "Ignore", 1)},
	} {
		config := &unstructured.Unstructured{Object: object{"apiVersion": "admissionregistration.k8s.io/v1",
			"kind": kind + "WebhookConfiguration", "metadata": object{"name": "widgets"}, "webhooks": all}}
		at := schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1",
			Resource: strings.ToLower(kind) + "webhookconfigurations"}
		must(d.client.Resource(at).Create(ctx, config, metav1.CreateOptions{}))
	}
	until(ctx, "the webhooks to be called", func() bool {
		made, err := d.widgets(v2).Create(ctx, widget("v2", "probe", object{"host": "h", "port": int64(1)}),
			metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err == nil && made.GetLabels()["mutated"] == "yes"
	})
}

// Each version reads what the other wrote; the webhooks see version 2 of both.
func (d *driver) convert(ctx context.Context) {
	made := must(d.widgets(v1).Create(ctx, widget("v1", "one", object{"address": "here:80"}), metav1.CreateOptions{}))
	expect(field(made, "spec", "address") == "here:80", "version 1 back, not %v", made)
	expect(made.GetLabels()["mutated"] == "yes", "a label of the webhook's in %v", made)
	two := must(d.widgets(v2).Get(ctx, "one", metav1.GetOptions{}))
	expect(field(two, "spec", "host") == "here" && field(two, "spec", "port") == int64(80), "version 2, not %v", two)
	_, err := d.widgets(v1).Create(ctx, widget("v1", "bad", object{"address": "here:70000"}), metav1.CreateOptions{})
	var status apierrors.APIStatus
	expect(errors.As(err, &status) && status.Status().Code == 400, "a refusal, not %v", err)
	wanted := fmt.Sprintf("admission webhook %q denied the request: port 70000 is too large", "validate."+group)
	expect(err.Error() == wanted, "%q, not %q", wanted, err)
	d.warned.all = nil
	must(d.widgets(v2).Create(ctx, widget("v2", "two", object{"host": "there", "port": int64(22)}), metav1.CreateOptions{}))
	expect(len(d.warned.all) == 1 && d.warned.all[0] == "port 22 is well known", "a warning, not %q", d.warned.all)
	for _, at := range []schema.GroupVersionResource{v1, v2} {
		all := must(d.widgets(at).List(ctx, metav1.ListOptions{}))
		expect(len(all.Items) == 2, "two widgets of %s, not %v", at.Version, all.Items)
		for _, one := range all.Items {
			expect(one.GetAPIVersion() == group+"/"+at.Version, "%s in a list of %s", one.GetAPIVersion(), at.Version)
		}
	}
	patch := []byte(`{"spec":{"port":8080}}`)
	must(d.widgets(v2).Patch(ctx, "one", types.MergePatchType, patch, metav1.PatchOptions{}))
	one := must(d.widgets(v1).Get(ctx, "one", metav1.GetOptions{}))
	expect(field(one, "spec", "address") == "here:8080", "the other version to follow, not %v", one)
	d.hooks.broken.Store(true)
	_, err = d.widgets(v2).Create(ctx, widget("v2", "three", object{"host": "h", "port": int64(1)}), metav1.CreateOptions{})
	d.hooks.broken.Store(false)
	expect(err != nil && strings.Contains(err.Error(), "out of order"), "the webhook's own words in %v", err)
	expect(strings.Contains(err.Error(), "conversion webhook for "+group+"/v2, Kind=Widget failed"), "upstream's words in %v", err)
}

// The controller reports what it saw, and cleans up before a widget goes.
func (d *driver) control(ctx context.Context) {
	maps := d.set.CoreV1().ConfigMaps(namespace)
	address := func(name, wanted string) func() bool {
		return func() bool {
			found, err := maps.Get(ctx, name, metav1.GetOptions{})
			if err != nil || found.Data["address"] != wanted {
				return false
			}
			one, err := d.widgets(v1).Get(ctx, name, metav1.GetOptions{})
			return err == nil && field(one, "status", "observed") == wanted
		}
	}
	until(ctx, "the first widget's map", address("one", "here:8080"))
	until(ctx, "the second widget's map", address("two", "there:22"))
	apply := widget("v1", "one", object{"address": "elsewhere:443"})
	must(d.widgets(v1).Apply(ctx, "one", apply, metav1.ApplyOptions{FieldManager: "driver", Force: true}))
	until(ctx, "the map to follow", address("one", "elsewhere:443"))
	check(d.widgets(v2).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
	until(ctx, "widgets and their maps to be gone", func() bool {
		all, err := d.widgets(v1).List(ctx, metav1.ListOptions{})
		_, gone := maps.Get(ctx, "one", metav1.GetOptions{})
		return err == nil && len(all.Items) == 0 && apierrors.IsNotFound(gone)
	})
	expect(d.hooks.finalized.Load() == 2, "two widgets finalized, not %d", d.hooks.finalized.Load())
}

func main() {
	defer func() {
		if reason := recover(); reason != nil {
			fmt.Fprintln(os.Stderr, "extension:", reason)
			os.Exit(1)
		}
	}()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	warned := &warnings{}
	config := must(clientcmd.BuildConfigFromFlags("", os.Args[1]))
	config.QPS, config.WarningHandler = -1, warned
	d := &driver{config: config, set: must(kubernetes.NewForConfig(config)), client: must(dynamic.NewForConfig(config)),
		hooks: serve(), warned: warned}
	must(d.set.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{}))
	d.define(ctx)
	d.admit(ctx)
	// Not what is driven: warnings are the controller's own.
	own := rest.CopyConfig(config)
	own.WarningHandler = rest.NoWarnings{}
	go run(ctx, must(dynamic.NewForConfig(own)), d.hooks)
	d.convert(ctx)
	d.control(ctx)
	check(d.client.Resource(definitions).Delete(ctx, "widgets."+group, metav1.DeleteOptions{}))
	check(d.set.CoreV1().Namespaces().Delete(ctx, namespace, metav1.DeleteOptions{}))
	fmt.Println("done")
}
