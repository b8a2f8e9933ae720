/**
 * Whose backend a container is: the label `weft.service`, else compose's project and service, else its name. Two
 * containers with the same service share a published port.
 */
export function serviceName(labels: Readonly<Record<string, string>>, containerName: string): string {
  const own = labels['weft.service'];
  if (own) return own;
  const project = labels['com.docker.compose.project'];
  const service = labels['com.docker.compose.service'];
  return project && service ? `${project}/${service}` : containerName;
}
