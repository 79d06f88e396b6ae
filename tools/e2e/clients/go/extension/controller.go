package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

const finalizer = group + "/controller"

type controller struct {
	client  dynamic.Interface
	widgets cache.GenericLister
	hooks   *hooks
}

// Keeps a ConfigMap for each widget, and tells what it saw in the widget's status.
func run(ctx context.Context, client dynamic.Interface, hooks *hooks) {
	factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(client, 0, namespace, nil)
	widgets, maps := factory.ForResource(v2), factory.ForResource(corev1.SchemeGroupVersion.WithResource("configmaps"))
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](10*time.Millisecond, time.Second))
	enqueue := func(o any) {
		if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(o); err == nil {
			queue.Add(key)
		}
	}
	handler := cache.ResourceEventHandlerFuncs{AddFunc: enqueue, UpdateFunc: func(_, o any) { enqueue(o) }, DeleteFunc: enqueue}
	must(widgets.Informer().AddEventHandler(handler))
	// Maps have their widgets' names.
	must(maps.Informer().AddEventHandler(handler))
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	c := &controller{client: client, widgets: widgets.Lister(), hooks: hooks}
	go func() {
		<-ctx.Done()
		queue.ShutDown()
	}()
	for {
		key, stop := queue.Get()
		if stop {
			return
		}
		if err := c.reconcile(ctx, key); err != nil {
			queue.AddRateLimited(key)
		} else {
			queue.Forget(key)
		}
		queue.Done(key)
	}
}

func (c *controller) reconcile(ctx context.Context, key string) error {
	found, err := c.widgets.Get(key)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	one := found.(*unstructured.Unstructured).DeepCopy()
	api := c.client.Resource(v2).Namespace(namespace)
	if one.GetDeletionTimestamp() != nil {
		kept := slices.DeleteFunc(one.GetFinalizers(), func(f string) bool { return f == finalizer })
		if len(kept) == len(one.GetFinalizers()) {
			return nil
		}
		one.SetFinalizers(kept)
		if _, err := api.Update(ctx, one, metav1.UpdateOptions{}); err != nil {
			return err
		}
		c.hooks.finalized.Add(1)
		return nil
	}
	if !slices.Contains(one.GetFinalizers(), finalizer) {
		one.SetFinalizers(append(one.GetFinalizers(), finalizer))
		_, err := api.Update(ctx, one, metav1.UpdateOptions{})
		return err
	}
	address := fmt.Sprintf("%v:%v", field(one, "spec", "host"), field(one, "spec", "port"))
	truth := true
	kept := &unstructured.Unstructured{Object: object{"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": object{"name": one.GetName()}, "data": object{"address": address}}}
	kept.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: one.GetAPIVersion(), Kind: "Widget", Name: one.GetName(),
		UID: one.GetUID(), Controller: &truth, BlockOwnerDeletion: &truth}})
	maps := c.client.Resource(corev1.SchemeGroupVersion.WithResource("configmaps")).Namespace(namespace)
	if _, err := maps.Apply(ctx, one.GetName(), kept, metav1.ApplyOptions{FieldManager: "controller", Force: true}); err != nil {
		return err
	}
	if field(one, "status", "observed") == address {
		return nil
	}
	one.Object["status"] = object{"observed": address}
	_, err = api.UpdateStatus(ctx, one, metav1.UpdateOptions{})
	return err
}
