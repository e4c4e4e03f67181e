ALTER TABLE "PlaylistTrack" ADD COLUMN "Position" integer;

UPDATE "PlaylistTrack" p
SET "Position" = o.position
FROM (
    SELECT "PlaylistId", "TrackId", row_number() OVER (PARTITION BY "PlaylistId" ORDER BY "TrackId") AS position
    FROM "PlaylistTrack"
) o
WHERE o."PlaylistId" = p."PlaylistId" AND o."TrackId" = p."TrackId";

ALTER TABLE "PlaylistTrack" ALTER COLUMN "Position" SET NOT NULL;
