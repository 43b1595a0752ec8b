-- The health of a Rollout as Argo CD shows it: resource.customizations.health.surefoot.dev_Rollout
-- of the ConfigMap argocd-cm. A release that is held is Suspended, so that a sync waits neither for a
-- person nor for evidence, and doesn't fail for them.
local hs = {status = "Progressing", message = "the controller hasn't looked at it yet"}
local status = obj.status
if status == nil or status.phase == nil then
  return hs
end
local seen = status.observedGeneration or 0
if seen < (obj.metadata.generation or 0) then
  hs.message = "the controller hasn't looked at this spec yet"
  return hs
end
hs.message = status.message or ""
if status.phase == "Healthy" then
  hs.status = "Healthy"
elseif status.phase == "Paused" then
  hs.status = "Suspended"
elseif status.phase == "Degraded" then
  hs.status = "Degraded"
end
for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "Stalled" and condition.status == "True" then
    hs.status = "Degraded"
    hs.message = condition.message
  end
end
return hs
